"""Shards as Ray tasks.

The work is stored once in the cluster's object store and every task reads it from there. A task whose worker dies is
started again, up to `_RETRIES` times. An error that the work itself raises is not retried; it is raised unchanged. All
machines must see the store under the same path: use a shared file system, or one machine.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from cvbench.core.settings import load_settings

_RETRIES = 4


def start_ray(**options: Any) -> Any:
    "The ray module, connected to the cluster of RAY_ADDRESS or to a new local one, silent and without a dashboard"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if not ray.is_initialized():
        path = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}}  # for the caller's own modules
        local: dict[str, Any] = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
        with warnings.catch_warnings():
            # Ray's processes are forked and then replaced, which Lance cannot tell from a fork that stays
            warnings.filterwarnings("ignore", message="lance is not fork-safe")
            ray.init(
                **({} if os.environ.get("RAY_ADDRESS") else local),
                runtime_env=path,
                logging_level=logging.ERROR,
                log_to_driver=False,
                **options,
            )
    return ray


def run_tasks(work: Any, numbers: Sequence[int]) -> Iterator[int]:
    "Numbers of the shards, as they finish; each task gets a core, and a GPU if the work uses one"
    ray = start_ray()
    settings = {f"CVBENCH_{name.upper()}": str(value) for name, value in asdict(load_settings()).items()}
    gpus = int(getattr(work, "device", "cpu").startswith("cuda"))

    @ray.remote(num_cpus=1, num_gpus=gpus, max_retries=_RETRIES)
    def task(work: Any, number: int) -> int:
        import torch

        os.environ.update(settings)
        torch.set_num_threads(1)
        work(number, lambda images: None)
        return number

    shared = ray.put(work)
    waiting = [task.remote(shared, number) for number in numbers]
    try:
        while waiting:
            done, waiting = ray.wait(waiting)
            yield from ray.get(done)
    except ray.exceptions.RayTaskError as e:
        raise e.as_instanceof_cause() from None
    finally:
        for left in waiting:
            ray.cancel(left)
