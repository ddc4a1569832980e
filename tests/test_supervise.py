"""A job that dies is started again from its last checkpoint, and none of its processes is left behind."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from common import run_files
from common.errors import ConfigError
from common.job_signals import STOP_SIGNALS
from common.start_words import ALL_STARTED, SUPERVISED
from tests.ranks import (
    MPIRUN,
    PROGRAMS,
    Result,
    environment,
    epochs,
    finish,
    mpirun,
    popen,
    records,
    wait_for_epochs,
    wait_until,
)
from tests.test_resume import close, same_bits
from tests.watched import insist
from workers.launch import hosts, run_arguments
from workers.launch.hosts import LaunchHost
from workers.supervisor import options, run_monitor, supervisor
from workers.supervisor.patience import Patience, ranks_start
from workers.supervisor.policy import AttemptPlan, Outcome, Policy

SUPERVISE = (sys.executable, "-m", "workers.supervise")
QUICK = ("--backoff", "0.01")
SMALL = ("--hidden", "16", "--batch-size", "50", "--epochs", "4", "--dtype", "float64", "--checkpoint-every", "1")
DIED = "rankwise: rank 2 on {} died (killed by SIGKILL) at epoch 2, step 5, phase: compute"


class Fake:
    """A launcher in a folder of its own, which does what it was told instead of starting a job."""

    def __init__(self, place: Path) -> None:
        self.place, self.run = place, place / "run"
        self.path = place / "mpirun"
        program = shlex.join([sys.executable, "-c", f"import sys; sys.argv[0] = {str(self.path)!r}; "
                              f"exec(open({str(PROGRAMS / 'fake_mpirun.py')!r}).read())"])  # fmt: skip
        self.path.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        self.path.chmod(0o755)

    def start(self, plan: Sequence[dict[str, Any]], *own: str, **variables: str) -> "subprocess.Popen[str]":
        """Start the supervisor over a launcher that does ``plan``, its last thing again and again."""
        (self.place / "plan.json").write_text(json.dumps(plan))
        np = () if "-np" in own else ("-np", "4")
        quick = () if "--backoff" in own else QUICK
        command = [*SUPERVISE, *np, *quick, "--mpirun", str(self.path), *own, "--", "--output", str(self.run)]
        return popen(command, cwd=self.place, env=environment(**variables))

    def __call__(self, plan: Sequence[dict[str, Any]], *own: str, **variables: str) -> Result:
        return finish(self.start(plan, *own, **variables))

    def calls(self) -> list[list[str]]:
        """Return the arguments of each call."""
        return [json.loads(line) for line in (self.place / "calls").read_text().splitlines()]

    def sizes(self) -> list[int]:
        """Return the ranks of each call."""
        return [int(call[call.index("-np") + 1]) for call in self.calls()]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def restarts(result: Result) -> list[str]:
    return [line for line in result.out.splitlines() if line.startswith("supervise: restart")]


def test_a_job_that_ends_well_is_started_once(fake: Fake) -> None:
    result = fake([{"end": True}])
    assert (result.code, result.err) == (0, "")
    (call,) = fake.calls()
    run = [sys.executable, "-X", SUPERVISED, "-m", "workers.run", "--resume", "auto", "--output", str(fake.run)]
    assert call == ["-np", "4", *run]
    assert result.out == f"supervise: done; 1 attempt with 4 ranks; the run is in {fake.run}\n"


def test_a_death_costs_a_rank_and_is_reported(fake: Fake) -> None:
    death = {"code": 137, "step": 52, "failure": DIED.format("a")}
    result = fake([death, {"code": 1, "failure": "x"}, {"end": True}])
    assert result.code == 0
    assert fake.sizes() == [4, 3, 3]
    first, second = restarts(result)
    assert "restart 1 of at most 5 in 0.0 s: exit code 137, rank 2 on a died (killed by SIGKILL) at epoch 2" in first
    assert first.endswith("; 3 ranks (4 before), from checkpoint-52.npz, which is new")
    assert second.endswith("exit code 1, x; 3 ranks, from checkpoint-52.npz, as before")
    assert (fake.run / "failure-1.txt").read_text().strip() == DIED.format("a")
    assert (fake.run / "failure-2.txt").read_text().strip() == "x"
    assert not (fake.run / "failure.txt").exists()


def test_several_deaths_are_read_from_the_log(fake: Fake) -> None:
    deaths = [{"what": "death", "rank": r, "host": "a", "message": f"rank {r} on a died (x)"} for r in (1, 3, 1)]
    raised = {"what": "death", "rank": 0, "host": "a", "message": "rank 0 on a, epoch 2, step 5: ValueError: no"}
    result = fake([{"code": 1, "events": [*deaths, raised]}, {"end": True}])
    assert result.code == 0
    assert fake.sizes() == [4, 2]


@pytest.mark.parametrize(("second", "sizes"), [({"code": 9}, [4, 4, 3]), ({"code": 9, "step": 9}, [4, 4, 4])])
def test_an_unknown_death_costs_a_rank_only_at_the_second_time(
    fake: Fake, second: dict[str, Any], sizes: list[int]
) -> None:
    result = fake([{"code": 9, "step": 4}, second, {"end": True}])
    assert result.code == 0
    assert "died without a message" in restarts(result)[0]
    assert fake.sizes() == sizes


def test_a_usage_error_is_passed_on(fake: Fake) -> None:
    result = fake([{"code": 2, "say": "rankwise: mode: unknown value"}])
    assert (result.code, result.err, result.out) == (2, "rankwise: mode: unknown value\n", "")
    assert len(fake.calls()) == 1


def test_a_job_that_others_stopped_continues_at_the_same_size(fake: Fake) -> None:
    result = fake([{"code": 75, "step": 7}, {"end": True}])
    assert result.code == 0
    assert fake.sizes() == [4, 4]
    assert "stopped on request, but not on the supervisor's; 4 ranks, from checkpoint-7.npz" in restarts(result)[0]


def test_it_gives_up_after_so_many_restarts(fake: Fake) -> None:
    result = fake([{"code": 9}], "--restarts", "2", "--fewest", "4")
    assert result.code == 9
    assert fake.sizes() == [4, 4, 4]
    assert result.err.count("rankwise:") == 1
    assert (
        "gave up after 2 restarts, which is the limit (--restarts); last: exit code 9, died without a message"
        in result.err
    )
    assert f"--output {fake.run}" in result.err


@pytest.mark.parametrize("by", ["failure", "say"])
def test_the_same_error_twice_is_not_tried_a_third_time(fake: Fake, by: str) -> None:
    error = {"code": 1, by: "rankwise: rank 1 on a, epoch 2, step 5: ValueError: bad row"}
    result = fake([{**error, "step": 26}, error])
    assert result.code == 1
    assert len(fake.calls()) == 2
    assert "the same error twice, with no progress between" in result.err
    assert "rank 1 on a, epoch 2, step 5: ValueError: bad row" in result.err


def test_the_same_error_after_progress_is(fake: Fake) -> None:
    error = {"code": 1, "say": "rankwise: disk full"}
    assert fake([{**error, "step": 26}, {**error, "step": 27}, {"end": True}]).code == 0


def test_a_run_that_is_done_needs_no_restart(fake: Fake) -> None:
    """Ranks may die after the end of the log."""
    assert fake([{"end": True, "code": 9}]).code == 0
    refused = {"code": 2, "say": "rankwise: resume: run is done: it has trained its 4 epochs"}
    result = fake([refused])
    assert (result.code, result.out) == (2, "")
    assert "is done: it has trained its 4 epochs" in result.err
    assert len(fake.calls()) == 2


def test_a_run_that_is_done_may_go_on_with_more_epochs(fake: Fake) -> None:
    assert fake([{"end": True}]).code == 0
    result = fake([{}, {"code": 9}, {"end": True}], "--restarts", "1")  # its first call was before
    assert result.code == 0
    assert "done; 2 attempts" in result.out


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_is_passed_on_once(fake: Fake, number: int) -> None:
    process = fake.start([{"sleep": 60}])
    wait_until((fake.place / "ready").exists, "no job", process)
    process.send_signal(number)
    result = finish(process)
    assert result.code == 75, result.err
    assert "supervise: stopped on request; 1 attempt" in result.out
    assert len(fake.calls()) == 1


def test_a_signal_while_waiting_for_the_restart(fake: Fake) -> None:
    process = fake.start([{"code": 9}], "--backoff", "60")
    assert process.stdout
    assert process.stdout.readline().startswith("supervise: restart 1")
    process.terminate()
    result = finish(process)
    assert result.code == 75
    assert "stopped on request before the restart" in result.out
    assert len(fake.calls()) == 1


def test_a_second_signal_ends_a_job_that_does_not_stop(tmp_path: Path) -> None:
    launcher = tmp_path / "mpirun"
    launcher.write_text("#!/bin/sh\ntrap '' USR1\nsleep 1234 & echo $! > pid\nwait\nsleep 1234\n")
    launcher.chmod(0o755)
    process = popen([*SUPERVISE, "-np", "1", "--mpirun", str(launcher)], cwd=tmp_path)
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "no job", process)
    assert insist(process, process.terminate).code == 128 + signal.SIGTERM
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_what_an_attempt_leaves_behind_is_ended_before_the_next() -> None:
    code = (
        "import os; from workers.supervisor import processes; processes.GRACE_S = 0.2; processes.adopt_orphans(); "
        "print(processes.Attempt(['sh', '-c', 'setsid sleep 1234 & echo $!; exit 7'], os.environ).wait())"
    )
    result = finish(popen([sys.executable, "-c", code]))
    pid, status = result.out.split()
    assert status == "7"
    assert not Path(f"/proc/{pid}").exists()


def test_hosts_are_named_to_each_launcher_in_its_way(fake: Fake) -> None:
    death = {"code": 137, "failure": DIED.format("b.cluster.org")}
    result = fake([death, death, {"end": True}], "-np", "3", "--hosts", "a,b", "--restarts", "2")
    assert result.code == 0, result.err
    assert [call[:4] for call in fake.calls()] == [
        ["-hosts", "a:2,b:2", "-np", "3"],
        ["-hosts", "a:2,b:2", "-np", "3"],
        ["-hosts", "a:2", "-np", "2"],
    ]
    assert "; 2 ranks (3 before) without b, from the start" in restarts(result)[1]
    (fake.place / "version").write_text("mpirun (Open MPI) 5.0.11")
    file = fake.place / "hostfile"
    file.write_text("# nodes\na slots=4\n\nb:2\n")
    again = [*SUPERVISE, "--mpirun", str(fake.path), "--hostfile", str(file), "--", "--output", str(fake.place / "new")]
    assert finish(popen(again, cwd=fake.place)).code == 0
    assert fake.calls()[-1][:4] == ["--host", "a:4,b:2", "-np", "6"]


def test_a_host_that_does_not_answer_any_more_is_left_out() -> None:
    places = hosts.read_hosts("a:2,b:2,c:2", "", 6)
    up = {"a", "b"}
    probe = hosts.HostProbe(places, lambda name: name in up)
    assert probe.lost(places, never=False) == []
    assert [host.name for host in probe.lost(places, never=True)] == ["c"]
    up.remove("b")
    lost = probe.lost(places, never=False)
    assert [host.name for host in lost] == ["b"]
    plan = Policy(1, 5).after(AttemptPlan(6, places), Outcome(1, "x"), lost)
    assert plan == AttemptPlan(4, (places[0], places[2]))
    policy = Policy(5, 5)
    assert policy.after(AttemptPlan(6, places), Outcome(1, "x"), lost) is None
    assert "slots for 4 ranks" in policy.refusal
    up.clear()
    assert probe.lost(places, never=True) == []  # it is the asking that fails


def test_a_host_that_slurm_calls_down_is_left_out_though_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = hosts.read_hosts("a:2,b:2,c:2", "", 6)
    (tmp_path / "sinfo").write_text("#!/bin/sh\necho 'a alloc'; echo 'b down*'; echo 'c mix'\n")
    (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert hosts.broken_nodes(places) == set()  # in no job of Slurm's
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert [host.name for host in hosts.HostProbe(places, lambda _: True).lost(places, never=False)] == ["b"]
    for state, is_broken in {"idle*": True, "drng": False, "fail": True, "alloc": False, "unk*": True}.items():
        assert bool(hosts.BROKEN.fullmatch(state)) == is_broken, state


@pytest.mark.slow
def test_a_launcher_that_starts_no_rank_is_ended(fake: Fake) -> None:
    """The second attempt has as long, 3 s, to say that its ranks have started."""
    stuck = {"sleep": 600, "marked": True}
    result = fake([stuck, {"end": True}], "-np", "2", RANKWISE_START_SECONDS="1")
    assert result.code == 0, result.err
    assert re.search(r"no rank had started after \d+ s \(3 times RANKWISE_START_SECONDS\)", restarts(result)[0])
    assert fake.sizes() == [2, 2]
    assert not list(fake.run.glob(".*"))


def test_a_launcher_that_waits_for_a_lost_host_is_ended_soon(tmp_path: Path) -> None:
    places, down = hosts.read_hosts("a:1,b:1", "", 2), list[LaunchHost]()
    waits = Patience(tmp_path / "new" / "run", places, lambda _, never: down)
    assert not any(waits.overdue(1.0) for _ in range(15))
    down.append(places[1])
    assert not any(waits.overdue(1.0) for _ in range(10))
    down.clear()  # for a moment a controller has not heard of it
    assert not any(waits.overdue(1.0) for _ in range(20))
    down.append(places[1])
    assert any(waits.overdue(1.0) for _ in range(20))
    assert waits.reason == "b: down, or does not answer any more, and no rank has started"
    waits.over()
    assert not list(tmp_path.iterdir())


def test_ranks_in_a_folder_of_their_own_say_that_they_have_started(tmp_path: Path) -> None:
    """That of this name on their machine is another one, and what they take out of it is not missed here."""
    started = [False]
    waits = Patience(tmp_path, (), lambda _, never: (), lambda: False, lambda: started[0])
    assert not waits.overdue(300.0)
    started[0] = True
    assert not any(waits.overdue(300.0) for _ in range(10))


@pytest.mark.slow
def test_what_they_say_is_for_the_supervisor_alone(fake: Fake) -> None:
    line = f"warning: x\n{ALL_STARTED.decode().strip()}\nwarning: y"
    result = fake([{"marked": True, "say": line, "sleep": 5, "end": True}], RANKWISE_START_SECONDS="1")
    assert (result.code, result.err) == (0, "warning: x\nwarning: y\n")
    assert len(fake.calls()) == 1


def test_ranks_that_are_slow_to_start_are_left_to_their_guards(tmp_path: Path) -> None:
    guarded = [True]
    waits = Patience(tmp_path, (), lambda _, never: (), lambda: guarded[0])
    assert not any(waits.overdue(100.0) for _ in range(10))
    guarded[0] = False
    assert waits.overdue(1.0)
    assert waits.reason.startswith("no rank had started after 1001 s (3 times RANKWISE_START_SECONDS")


def test_guards_are_seen_below_the_supervisor() -> None:
    assert not ranks_start()
    name = "import sys, time; open('/proc/self/comm', 'w').write('rankwise-wait'); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", name], stdout=subprocess.PIPE) as guard:
        assert guard.stdout
        guard.stdout.readline()
        assert ranks_start()
        guard.kill()
    assert not ranks_start()


def test_ranks_that_train_have_no_limit_until_the_job_has_failed(tmp_path: Path) -> None:
    (tmp_path / "failure.txt").write_text("of an earlier job\n")
    waits = Patience(tmp_path, (), lambda _, never: ())
    run_files.note_start(str(tmp_path))
    assert not any(waits.overdue(60.0) for _ in range(100))
    (tmp_path / "failure.txt").unlink()
    (tmp_path / "failure.txt").write_text("rankwise: rank 1 on b died\n")
    assert [waits.overdue(20.0) for _ in range(4)] == [False, False, True, True]
    assert waits.reason == ""


def test_this_machine_answers_and_a_name_that_is_none_does_not() -> None:
    assert hosts.answers("localhost")
    assert not hosts.answers("no such name")


def test_numbers_are_not_cut_at_their_dots() -> None:
    assert LaunchHost("a.org", 1).is_called("a")
    assert not LaunchHost("10.0.0.1", 1).is_called("10.0.0.2")


def test_all_ranks_dead_says_nothing_of_any() -> None:
    deaths = tuple((rank, "a") for rank in range(4))
    assert Policy(1, 5).after(AttemptPlan(4), Outcome(137, "rank 0 on a died", deaths)) == AttemptPlan(4)
    assert Policy(3, 5).after(AttemptPlan(4), Outcome(137, "rank 0 on a died", deaths[:3])) == AttemptPlan(3)


def test_waits_double_up_to_a_minute() -> None:
    for restart, most in ((1, 1), (2, 2), (5, 16), (7, 60), (1000, 60)):
        assert most / 2 <= supervisor.backoff(1, restart) <= most


def test_the_folder_is_the_users_or_a_new_one(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text('output = "of-file"\n')
    assert run_arguments.named_folder(["--output", "a"], {"RANKWISE_OUTPUT": "b"}) == Path("a")
    assert run_arguments.named_folder(["--epochs", "1", "--output=a"], {}) == Path("a")
    for short in (["-o", "a"], ["-oa"], ["-o=a"]):
        assert run_arguments.named_folder(["--epochs", "1", *short], {}) == Path("a")
        assert run_arguments.take_option("output", [*short, "--epochs", "1"])[1] == ["--epochs", "1"]
    assert run_arguments.named_folder(["--config", "own.toml"], {"RANKWISE_OUTPUT": "b"}) == Path("b")
    assert run_arguments.named_folder([], {"RANKWISE_CONFIG": "own.toml"}) == Path("of-file")
    assert run_arguments.named_folder(["--config", "none.toml"], {}) is None
    with pytest.raises(ConfigError, match=r"^output: got '~nobody-here', but that user has no home folder"):
        run_arguments.named_folder(["--output", "~nobody-here"], {})
    for kept in (False, True):
        with run_monitor.run_folder_of(["--config", "none.toml"]) as folder:
            assert folder.name.endswith("-supervised")
            if kept:
                (folder / "log").touch()
        assert folder.exists() == kept
    others = run_arguments.take_option("output", ["--output", "--output", "--output=x", "--epochs", "1"])[1]
    assert others == ["--epochs", "1"]


def test_a_log_without_a_record_is_cleared_away(tmp_path: Path) -> None:
    for content, left in ((b"", []), (b"\x8a\xa4kin", []), (b"of others", ["config.toml", "coordinator.msgpack"])):
        (tmp_path / "coordinator.msgpack").write_bytes(content)
        (tmp_path / "config.toml").touch()
        run_monitor.RunMonitor(tmp_path).clear()
        assert sorted(path.name for path in tmp_path.iterdir()) == left


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "ranks: none given"),
        (("-np", "1.5"), 'ranks: got "1.5"; allowed is a whole number'),
        (("-np", "-1"), "ranks: got -1; allowed is at least 0"),
        (("-np", "2", "--fewest", "3"), "fewest: got 3"),
        (("-np", "2", "--backoff", "nan"), "backoff: got nan"),
        (("-np", "2", "--epochs", "3"), "options of workers.run belong after --"),
        (("-np", "2", "--", "--resume", "auto"), "resume: the supervisor gives it"),
        (("-np", "2", "--mpirun", "no/such/mpirun"), "mpirun: no/such/mpirun is not there"),
        (("-np", "2", "--hosts", "a b"), "hosts: got 'a b'"),
        (("-np", "2", "--hosts", "a:0"), "hosts: got 'a:0'"),
        (("-np", "3", "--hosts", "a:1,b:1"), "the hosts have 2 slots in all"),
        (("--hosts", "a", "--hostfile", "b"), "exclude each other"),
        (("--hostfile", "no-such-file"), "hostfile: no-such-file cannot be read"),
    ],
)
def test_wrong_options_are_refused(arguments: tuple[str, ...], said: str) -> None:
    def read() -> None:
        chosen = options.parse(list(arguments))
        assert not isinstance(chosen, int)
        chosen.places()
        chosen.launcher()

    with pytest.raises(ConfigError) as error:
        read()
    assert said in str(error.value)


def test_a_wrong_option_ends_with_one_message(tmp_path: Path) -> None:
    result = finish(popen([*SUPERVISE, "-np", "2", "--mpirun", "no/such"], cwd=tmp_path))
    assert (result.code, result.out, result.err.count("rankwise:")) == (2, "", 1)
    assert "Traceback" not in result.err
    assert list(tmp_path.iterdir()) == []


def test_hosts_without_a_number_share_the_ranks() -> None:
    assert hosts.read_hosts("a, b,a", "", 4) == (LaunchHost("a", 4), LaunchHost("b", 2))
    with pytest.raises(ConfigError, match="a;b"):
        hosts.read_hosts("a;b", "", 4)


def ranks_of(text: str) -> list[int]:
    """Return the training processes with a text in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if text.encode() in line and b"python" in line[0] and b"workers.run" in line:
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("deaths", [1, 2])
def test_a_killed_rank_costs_no_bits(tmp_path: Path, deaths: int) -> None:
    """The launcher is the real one, but a rank of the first attempts kills itself in the middle of an epoch."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert mpirun(3, "-m", "workers.run", *SMALL, "--output", str(whole)).code == 0
    launcher, real, faulty = tmp_path / "mpirun", shlex.quote(MPIRUN), shlex.quote(str(PROGRAMS / "faulty.py"))
    launcher.write_text(
        "#!/bin/bash\necho >> attempts\n"  # arguments: -np 3 python -X ... -m workers.run ...
        f'[ "$(wc -l < attempts)" -gt {deaths} ] && exec {real} "$@"\n'
        f'exec {real} "${{@:1:3}}" {faulty} kill 1 3 20 "${{@:8}}"\n'
    )
    launcher.chmod(0o755)
    command = [*SUPERVISE, "-np", "3", *QUICK, "--mpirun", str(launcher), "--", *SMALL, "--output", str(run)]
    result = finish(popen(command, cwd=tmp_path))
    assert result.code == 0, result.err
    assert len(restarts(result)) == deaths
    # written while the next steps run, so the kill may come before it is whole
    assert re.search(r"from checkpoint-(26|52)\.npz", restarts(result)[0])
    found = epochs(run)
    assert [e["epoch"] for e in found] == [1, 2, 3, 4]
    if len(found[-1]["rows"]) == 3:
        assert same_bits(whole, run)
    else:
        close(whole, run)
    assert len(found[-1]["rows"]) == 3 or "(3 before)" in result.out or "(2 before)" in result.out
    assert ranks_of(str(run)) == []


def test_sigterm_stops_with_a_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [*SUPERVISE, "-np", "2", "--", "--epochs", "100000", "--hidden", "8", "--output", str(run)]
    process = popen(command, cwd=tmp_path)
    wait_for_epochs(process, run, 1)
    process.terminate()
    result = finish(process)
    assert result.code == 75, result.err
    assert list(run.glob("checkpoint-*.npz"))
    assert records(run)[-1]["status"] == "stopped"
    assert "supervise: stopped on request; 1 attempt with 2 ranks" in result.out


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process that its parent died")
def test_none_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [*SUPERVISE, "-np", "2", "--", "--epochs", "100000", "--hidden", "8", "--output", str(run)]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for_epochs(process, run, 1)
    assert len(ranks_of(str(run))) >= 2
    process.kill()
    process.wait()
    wait_until(lambda: not ranks_of(str(run)), "ranks are left behind")


def test_a_wrong_option_of_the_job_and_its_help_pass_through(tmp_path: Path) -> None:
    result = finish(popen([*SUPERVISE, "-np", "1", "--", "--mode", "alreduce"], cwd=tmp_path))
    assert result.code == 2
    assert result.err.count("rankwise:") == 1
    assert result.out == ""
    assert list(tmp_path.iterdir()) == []
    assert finish(popen([*SUPERVISE, "-np", "1", "--", "--version"], cwd=tmp_path)).code == 0


def test_it_never_loads_mpi() -> None:
    code = "import sys, workers.supervise; sys.exit('mpi4py' in sys.modules)"
    assert finish(popen([sys.executable, "-c", code], cwd=os.sep)).code == 0
