"""BLAS: which library multiplies matrices, with which kernels, and whether it has better ones for this processor.

Other kernels are timed in a process of their own, since a library chooses them once, when it is loaded.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from common.ranges import named_hosts
from workers import THREAD_VARIABLES
from workers.diagnosis.facts import Facts, grouped
from workers.diagnosis.finding import NOTE, OK, WARN, Finding

VARIABLE = "OPENBLAS_CORETYPE"
FASTER = 1.15
"""Kernels that are faster by less are no finding: so much two runs on a busy machine differ."""
LIMIT_S = 10.0
ROUNDS = 3
MOST_S = 20.0
"""What all of it may take."""
WIDE = {"SkylakeX", "Cooperlake", "SapphireRapids", "Sapphirerapids"}
MIDDLE = {"Haswell", "Zen", *WIDE}
"""OpenBLAS's kernels for x86-64 that use AVX-512, and those that use AVX2 at least."""
TIME = (
    "import time, numpy as np, threadpoolctl; a = np.ones((512, 512), np.float32); o = np.dot(a, a); t = [];\n"
    "for i in range(24): b = time.perf_counter(); np.dot(a, a, o); t.append(time.perf_counter() - b)\n"
    "print(threadpoolctl.threadpool_info()[0].get('architecture', ''), 2 * 512**3 / min(t) / 1e9)"
)


def loaded() -> tuple[str, str]:
    """Return the BLAS library of this process with its version, and its kernels; nothing if there is none known."""
    import threadpoolctl

    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    if not pools:
        return "", ""
    return f"{pools[0]['internal_api']} {pools[0]['version'] or ''}".rstrip(), str(pools[0].get("architecture", ""))


def processor(path: str = "/proc/cpuinfo") -> tuple[str, set[str]]:
    """Return the processor's name and what it can do."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", set()
    name = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    return name[1].strip() if name else "", set(flags[1].split()) if flags else set()


def better(kernels: str, flags: set[str], environment: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """Return what to change in the environment to try kernels that may be faster; nothing if none may be.

    None unsets a variable. ``flags``: what the processor can do.
    """
    if environment.get(VARIABLE):
        return {VARIABLE: None}
    if "avx512f" in flags and kernels not in WIDE:
        return {VARIABLE: "SkylakeX"}
    if "avx2" in flags and kernels not in MIDDLE:
        return {VARIABLE: "Haswell"}
    return {}


def rate(changes: Mapping[str, str | None]) -> tuple[str, float]:
    """Return kernels and GFLOP/s on a core of a float32 product of 512 x 512, in a new process; 0 if it fails."""
    env = {name: value for name, value in os.environ.items() if name not in THREAD_VARIABLES}
    env |= dict.fromkeys(THREAD_VARIABLES, "1")
    for name, value in changes.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", TIME], capture_output=True, text=True, check=True, timeout=LIMIT_S, env=env,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        kernels, number = done.stdout.split()[-2:]
        return kernels, float(number)
    except (OSError, subprocess.SubprocessError, ValueError):
        return "", 0.0


def timed(kernels: str, flags: set[str]) -> dict[str, float]:
    """Return the rates of the kernels in use and of those that may be better, by name; nothing if none may be."""
    changes = better(kernels, flags)
    if not changes:
        return {}
    best: dict[str, float] = {}
    for change in ({}, changes) * ROUNDS:  # in turn, for others may use the processor meanwhile
        name, number = rate(change)
        if not number:  # it cannot be tried here, or takes too long
            break
        best[name] = max(number, best.get(name, 0.0))
    best.pop("", None)
    return best


def blas(facts: Facts) -> Iterator[Finding]:
    """Say which BLAS the hosts use, and what makes it faster."""
    for (library, kernels, processor_name), names in grouped(
        (host.host, (host.blas, host.blas_kernels, host.processor)) for host in facts.hosts
    ).items():
        where = named_hosts(names)
        if not library:
            yield Finding(
                WARN,
                f"{where}: NumPy uses no BLAS library that is known, so matrices may be multiplied slowly",
                "A NumPy of PyPI comes with OpenBLAS:",
                command=f"{shlex.quote(sys.executable)} -m pip install --force-reinstall --no-deps numpy",
                about=where,
            )
            continue
        own = facts.kernel_rates.get(kernels)
        speed = f", {own:.0f} GFLOP/s on a core" if own else ""
        yield Finding(OK, f"{where}: {library} with kernels for {kernels or 'unknown'}{speed}, on {processor_name}")
    yield from _faster(facts)


def _faster(facts: Facts) -> Iterator[Finding]:
    kernels, rates = facts.hosts[0].blas_kernels, facts.kernel_rates
    own, set_to = rates.get(kernels, 0.0), facts.environment.get(VARIABLE, "")
    name, best = max(((n, r) for n, r in rates.items() if n != kernels), key=lambda item: item[1], default=("", 0.0))
    if own and best > FASTER * own:
        yield Finding(
            WARN,
            f"BLAS multiplies {best / own:.1f} times as fast with its kernels for {name}: {best:.0f} instead of "
            f"{own:.0f} GFLOP/s on a core{f', but {VARIABLE}={set_to} is set' if set_to else ''}",
            command=f"unset {VARIABLE}" if set_to else f"export {VARIABLE}={name}",
        )
    elif set_to:
        yield Finding(NOTE, f"{VARIABLE}={set_to} is set; without it BLAS is no faster here")
