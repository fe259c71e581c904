"""What is long by nature, in parts of at most an hour on two cores

    python tests/nightly.py [PART ...] [--variants NAME ...] [--whole]

`arithmetic` runs the notebooks and the tests marked numeric (with --whole, everything) once under each variant of instruction
set, threads and precision that this processor can imitate; every other part runs the tests marked nightly(part). Each part
ends with a line of its own, and the last line counts what failed.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from numpy._core._multiarray_umath import __cpu_dispatch__ as cpu_dispatch

ROOT = Path(__file__).parents[1]
WIDE = [f for f in cpu_dispatch if f.startswith("AVX512") or f == "X86_V4"]  # what numpy has kernels of its own for
FLAGS = {"", *re.findall(r"\w+", Path("/proc/cpuinfo").read_text())} if Path("/proc/cpuinfo").exists() else {""}
NO_AVX512 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
NO_AVX512 |= {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": " ".join(WIDE)}
NO_AVX2 = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX", "MKL_CBWR": "COMPATIBLE"}
NO_AVX2 |= {"OPENBLAS_CORETYPE": "Sandybridge", "NPY_DISABLE_CPU_FEATURES": " ".join(cpu_dispatch)}
VARIANTS = {  # beside the processor as it is, which make test runs on: the flag that is hidden, and how
    "four threads": ("", {"OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "passive"}),
    "no AMX": ("amx_tile", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "OPENBLAS_CORETYPE": "SkylakeX"}),  # AMD Zen 4
    "no bf16": ("avx512_bf16", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}),  # Intel Ice Lake
    "no AVX512": ("avx512f", NO_AVX512),  # AMD Zen 3
    "no AVX2": ("avx2", NO_AVX2),  # Intel Sandy Bridge
    "no AVX": ("avx", NO_AVX2 | {"ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Nehalem"}),
}
PARTS = ("arithmetic", "families", "intervals", "slices")


def run_tests(name: str, *options: str, **env: str) -> bool:
    "Whether the tests passed; one line says so"
    start = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "--durations=10", *options]
    done = subprocess.run(
        command, cwd=ROOT, env={"OMP_NUM_THREADS": "1"} | os.environ | env, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        print(done.stdout)
    said = " ".join(f"{k}={v!r}" for k, v in env.items())
    print(
        f"nightly {name}: {done.stdout.strip().splitlines()[-1].strip('= ')} in {time.monotonic() - start:.0f} s {said}",
        flush=True,
    )
    return not done.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", default=["all"], choices=("all", *PARTS))
    parser.add_argument(
        "--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS, metavar="NAME", help=", ".join(VARIANTS)
    )
    parser.add_argument("--whole", action="store_true", help="all tests under each variant, not the numeric ones alone")
    args = parser.parse_args()
    passed = []
    for part in PARTS if "all" in args.part else args.part:
        if part == "arithmetic":
            chosen = [] if args.whole else ["-m", "numeric"]
            for name in args.variants:
                flag, env = VARIANTS[name]
                if flag in FLAGS:
                    passed.append(run_tests(f"arithmetic, {name}", *chosen, **env))
                else:
                    print(f"nightly arithmetic, {name}: nothing to run, for this processor has no {flag}", flush=True)
        else:
            passed.append(run_tests(part, "--nightly", part))
    print(f"nightly: {sum(passed)} passed, {len(passed) - sum(passed)} failed")
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
