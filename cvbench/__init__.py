"""From a folder of images and a foundation model to a gated, documented model

`import cvbench as cv` gives every verb and noun, each loaded when it is first used; `__init__.pyi` lists them.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
