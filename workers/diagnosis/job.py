"""The examination on the ranks of a job: collects facts, measures, and has rank 0 say what the checks find in them."""

import contextlib
import os
import signal
import time
from dataclasses import asdict, replace
from typing import Any

from mpi4py import MPI

from common.errors import EXIT_ERROR, EXIT_OK
from common.job_signals import STOP_SIGNALS
from common.run_files import RUNS
from ps.comm.agreement import at_root
from ps.comm.collectives import allgather, bcast, gather
from ps.comm.topology import Topology
from ps.metrics.clock_offset import clock_offset
from workers.diagnosis import checks, collect, interfaces, kernels, measure, publish, run_folder
from workers.diagnosis.deadline import Deadline
from workers.diagnosis.facts import Facts, FolderFacts, HostFacts, Interface, RankFacts
from workers.diagnosis.finding import failed
from workers.diagnosis.options import DoctorConfig, parse
from workers.diagnosis.remedies import start
from workers.launch.blas_threads import limit_threads
from workers.launch.process import Context
from workers.launch.site_files import loaded_from

LEVELS = {
    MPI.THREAD_SINGLE: "MPI_THREAD_SINGLE",
    MPI.THREAD_FUNNELED: "MPI_THREAD_FUNNELED",
    MPI.THREAD_SERIALIZED: "MPI_THREAD_SERIALIZED",
    MPI.THREAD_MULTIPLE: "MPI_THREAD_MULTIPLE",
}


def run(context: Context, deadline: Deadline) -> int:
    """Examine the job on this rank; rank 0 prints what is found. Return the exit code."""
    for number in STOP_SIGNALS:  # there is nothing to save
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    agreed = context.agree(lambda: parse(context.arguments), DoctorConfig)
    if isinstance(agreed, int):
        return agreed
    (config,) = agreed
    deadline.limit_s = config.stall_seconds

    context.rank_status.set_debug(config.debug)
    topology = Topology(context.comm)
    facts = examine(topology, config, deadline)
    topology.close()
    deadline.over()
    return int(at_root(context.comm, lambda: report(facts, config) if facts else EXIT_OK))


def report(facts: Facts, config: DoctorConfig) -> int:
    """Print what the checks find; return the exit code."""
    findings = [*checks.of_process(checks.PROCESS), *checks.of_job(facts)]
    if config.json:
        publish.json_object(findings, publish.job_of(facts), publish.measured_of(facts))
    else:
        publish.lines(findings, start_line(facts))
    return EXIT_ERROR if failed(findings) else EXIT_OK


def start_line(facts: Facts) -> str:
    """Return a command that starts training on as many ranks as this job has."""
    return start(len(facts.ranks), facts.launcher)


def examine(topology: Topology, config: DoctorConfig, deadline: Deadline) -> Facts | None:
    """Return all facts, at rank 0. Collective."""
    comm = topology.comm
    deadline.tick("facts of ranks and hosts")
    threads, _ = limit_threads(topology)
    vendor, version = MPI.get_vendor()
    library = f"{vendor} {'.'.join(map(str, version))}"
    leader = topology.leaders[comm.rank]
    own = collect.rank_facts(comm.rank, leader, threads, library, loaded_from())
    cores = {core for mask in allgather(topology.local, own.cores) for core in mask}
    leads = comm.rank == leader
    members = [rank for rank, first in enumerate(topology.leaders) if first == leader]
    mine = collect.host_facts(members, cores, config.output or str(RUNS)) if leads else None
    deadline.tick("clocks")
    offset, error = clock_offset(topology, time.time)
    deadline.tick("the folder of runs", run_folder.MOST_S)
    mine = _look_at_folder(topology, mine, deadline)
    deadline.tick("kernels of BLAS", kernels.MOST_S)
    rates = collect.kernel_rates() if comm.rank == 0 else {}
    if comm.rank == 0:
        deadline.tick("kernels of BLAS")
    measure.quiet_barrier(comm)
    deadline.tick("shared memory")
    shares = measure.shares_memory(topology)
    names = allgather(comm, own.host)
    rounds = measure.pair_rounds(_by_host(topology.leaders))
    deadline.tick("messages within hosts")
    pairs = measure.run_rounds(comm, rounds[0], names, between=False)
    before = interfaces.sent_bytes()
    deadline.tick("messages between hosts")
    pairs += measure.run_rounds(comm, rounds[1], names, between=True)
    if mine:
        sent = interfaces.with_sent(mine.interfaces, before, interfaces.sent_bytes())
        mine = replace(mine, interfaces=sent, clock_s=-offset, clock_error_s=error)
    sums, right = measure.run_sums(comm, deadline.tick)
    deadline.tick("gathering")
    ranks, hosts = gather(comm, asdict(own)), gather(comm, asdict(mine) if mine else None)
    if comm.rank:
        return None
    return Facts(
        ranks=[RankFacts(**rank) for rank in ranks],
        hosts=[host_of(host) for host in hosts if host],
        vendor=vendor,
        library_text=MPI.Get_library_version(),
        launcher=collect.used_launcher(),
        thread_level=LEVELS.get(MPI.Query_thread(), ""),
        pairs=pairs,
        sums=sums,
        kernel_rates=rates,
        shares_memory=shares,
        sums_right=right,
    )


def host_of(values: dict[str, Any]) -> HostFacts:
    """Make the facts of a host from plain values."""
    folder = values["folder"]
    return HostFacts(
        **{
            **values,
            "interfaces": [Interface(**one) for one in values["interfaces"]],
            "folder": FolderFacts(**folder) if folder else None,
        }
    )


def _by_host(leaders: list[int]) -> list[list[int]]:
    members: dict[int, list[int]] = {}
    for rank, leader in enumerate(leaders):
        members.setdefault(leader, []).append(rank)
    return list(members.values())


def _look_at_folder(topology: Topology, mine: HostFacts | None, deadline: Deadline) -> HostFacts | None:
    """Have rank 0 write a file that all hosts look for, and measure how fast it can write. Collective."""
    comm = topology.comm
    folder = mine.folder if mine else None
    nonce, place = os.urandom(8).hex(), ""
    if comm.rank == 0 and folder and not folder.fault:
        folder = replace(folder, write_rate=run_folder.write_rate(folder.path))
        place = run_folder.put_nonce(folder.path, nonce)
    if comm.rank == 0:  # from here on it waits for others
        deadline.tick("the folder of runs")
    nonce, place = bcast(comm, [nonce, place])
    deadline.tick("the folder of runs", run_folder.SEEN_S)
    if folder and place and comm.rank:
        folder = replace(folder, nonce=run_folder.sees(place, nonce))
    measure.quiet_barrier(comm)
    if comm.rank == 0 and place:
        with contextlib.suppress(OSError):
            os.unlink(place)
    return replace(mine, folder=folder) if mine else None
