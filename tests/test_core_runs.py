"A run has a name, whatever it begins with"

import pytest

from cvbench.core.runs import load_run, start_run


def test_a_long_name_is_cut_and_two_of_them_stay_apart():
    a, b = (start_run("a" * 98, {"lr": lr}) for lr in (1, 2))
    assert len(a.id) == len(b.id) == 100 and a.id != b.id
    assert load_run(a.id) == a


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "a b", "a\0b", "/" + "a" * 10_000])
def test_a_name_that_is_no_folder_is_refused(name, store):
    with pytest.raises(ValueError, match="not usable as a folder name"):
        start_run(name, {})
    assert not store.exists()
