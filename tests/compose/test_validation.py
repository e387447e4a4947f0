"""The quick validation of README: an image's flow, unknown senders, bad workers, and the users' commands."""

import re
import shlex
from functools import partial

import pytest
from support.compose_lab import GATEWAY, PROJECT, SERVICES, WORKERS, ComposeLab, run, wait_until

from gateway.errors import AssociationRejectedError

AT_ONCE_SECONDS = 8.0
"""The time of an original to the PACS on two cores that sixteen containers share.

It must be less than what a slow worker takes.
"""
STAGES = {"forward_pacs", "forward_worker", "ai_result"}


@pytest.mark.guarantee("G1")
def test_an_allowed_sender_reaches_worker_and_pacs_with_original_and_result(lab: ComposeLab) -> None:
    """The main flow; each step is in `docker compose logs edge` once, whichever process did it."""
    study, originals = lab.accepted(4, modality="CT")
    lab.wait_held(originals, study_instance_uid=study)
    results = lab.wait_results(originals)
    assert originals.isdisjoint(results)
    assert lab.held(study) == originals | results
    wait_until(lambda: set(lab.done(study).values()) == {4}, 30, "every step of all four")
    lines = [line for line in lab.log(study) if line["stage"] in STAGES]
    told = {(line["stage"], line["sop_instance_uid"]) for line in lines if line["outcome"] != "pending"}
    assert {uid for stage, uid in told if stage == "forward_worker"} == originals
    assert {uid for stage, uid in told if stage == "forward_pacs"} == originals | results
    assert {uid for stage, uid in told if stage == "ai_result"} == results
    shown = [str(line) for line in lab.log(study)]
    assert len(shown) == len(set(shown))


def status(lab: ComposeLab) -> str:
    """Return what is wrong, as `mini-pacs status --check` prints it."""
    return lab.exec("edge", "mini-pacs", "status", "--check", check=False).stdout


@pytest.mark.guarantee("G7")
def test_an_unknown_sender_is_rejected_and_the_log_says_why(lab: ComposeLab) -> None:
    """Rejected at association, permanently (1/1/3), as `calling_aet_not_allowed`."""
    with pytest.raises(AssociationRejectedError) as rejection:
        lab.send(1, calling="STRANGER")
    assert (rejection.value.result, rejection.value.source, rejection.value.reason) == (1, 1, 3)
    line = lab.wait_for_line(calling_ae_title="STRANGER")
    assert "calling_aet_not_allowed" in line.values()
    wait_until(lambda: "STRANGER" in status(lab), 30, "status to name it")
    # It stays a problem for ten minutes, in which the next tests would not find the lab well.
    lab.rows("DELETE FROM refusals WHERE calling_ae_title = 'STRANGER'")
    assert "STRANGER" not in status(lab)


@pytest.mark.guarantee("G5")
def test_a_stopped_worker_delays_no_original_and_others_replace_it(lab: ComposeLab) -> None:
    """The PACS has the originals at once, and a result of each comes without that worker."""
    lab.compose("stop", "app02")
    try:
        study, originals = lab.accepted(10)
        lab.wait_held(originals, AT_ONCE_SECONDS, study)
        lab.wait_results(originals)
        [step] = [step for step in lab.study(study)["steps"] if step["name"] == "worker"]
        assert step["done"] == 10
        assert set(step["by"]) == {"APP01", "APP03", "APP04", "APP05"}
    finally:
        lab.compose("start", "app02")


@pytest.mark.guarantee("G5")
def test_a_slow_worker_delays_no_original_and_its_result_follows(lab: ComposeLab) -> None:
    """WORKER_DELAY_SECONDS=12: the original is at the PACS before its result, which follows."""
    lab.compose("up", "--detach", "--no-deps", *WORKERS, WORKER_DELAY_SECONDS="12")
    try:
        wait_until(lambda: all(is_healthy(lab, name) for name in WORKERS), 60, "the slow workers to listen")
        study, originals = lab.accepted(2)
        lab.wait_held(originals, AT_ONCE_SECONDS, study)
        assert lab.held(study) == originals
        lab.wait_results(originals)
        wait_until(lambda: moving(lab, study) == 0, 60, "the workers' part to be over")
        # the first worker was late, so a second was asked; no third, since there was a result by then
        assert max(asked(lab, study).values()) <= 2
        assert set(asked(lab, study)) == originals
    finally:
        lab.compose("up", "--detach", "--no-deps", *WORKERS)
    assert len(originals) <= len(lab.held(study) - originals) <= 2 * len(originals)


def moving(lab: ComposeLab, study_instance_uid: str) -> int:
    """Return how many deliveries of the study, and results of its instances, are still open."""
    [[count]] = lab.rows(
        "SELECT count(*) FILTER (WHERE d.state <> 'delivered' OR e.state = 'owed') FROM instances i"  # noqa: S608
        " JOIN deliveries d ON d.instance_id = i.id LEFT JOIN expected_results e ON e.delivery_id = d.id"
        f" WHERE i.study_instance_uid = '{study_instance_uid}'"
    )
    return int(count)


def asked(lab: ComposeLab, study_instance_uid: str) -> dict[str, int]:
    """Return how many workers were asked for a result of each original of the study."""
    rows = lab.rows(
        "SELECT i.sop_instance_uid, count(*) FROM expected_results e JOIN instances i ON i.id = e.instance_id"  # noqa: S608
        f" WHERE i.study_instance_uid = '{study_instance_uid}' GROUP BY 1"
    )
    return {uid: int(count) for uid, count in rows}


def is_healthy(lab: ComposeLab, service: str) -> bool:
    """Tell whether Docker counts the service as healthy."""
    return bool(lab.inspect(service)["State"]["Health"]["Status"] == "healthy")


def test_every_service_is_healthy_by_its_own_check(lab: ComposeLab) -> None:
    """Each service has a check, and it succeeds."""
    wait_until(lambda: all(is_healthy(lab, service) for service in SERVICES), 200, "all to be healthy")


@pytest.mark.parametrize("question", [("edge",), ("actors", "workers")])
def test_a_health_check_can_fail(lab: ComposeLab, question: tuple[str, ...]) -> None:
    """If nobody answers C-ECHO, or consumes the queue, the check fails and says why."""
    answer = lab.exec("actors-pacs", "python", "/app/healthy.py", *question, check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("not healthy: ")


def test_nothing_runs_as_root_or_writes_to_its_image(lab: ComposeLab) -> None:
    """Read-only root file system, no capability, no new privileges, and a user of its own."""
    for service in SERVICES:
        if service == "postgres":
            continue  # the public image's entry point runs as root until it starts the server
        host = lab.inspect(service)["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        user = lab.exec(service, "id", "-u").stdout.strip()
        assert user.isdecimal(), service
        assert user != "0", service


def test_every_service_has_restart_limits_and_a_grace_period(lab: ComposeLab) -> None:
    """Restart policy, log limits and a grace period.

    The grace period covers edge.stop_grace_seconds if a service drains.
    """
    for service in SERVICES:
        found = lab.inspect(service)
        assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped", service
        assert {"max-size", "max-file"} <= set(found["HostConfig"]["LogConfig"]["Config"]), service
        if service in GATEWAY:
            assert found["Config"]["StopTimeout"] > 31, service
        if service in WORKERS:
            limits = found["HostConfig"]["Memory"], found["HostConfig"]["PidsLimit"]
            assert limits == (512 << 20, 256), service
    for service, size in (("edge", "512M"), ("app01", "256M")):
        assert lab.exec(service, "df", "--output=size", "-BM", "/tmp").stdout.split()[-1] == size  # noqa: S108


def test_a_clone_with_umask_077_starts(lab: ComposeLab) -> None:
    """The lab is such a clone: the images opened the files that they copied, and init the configuration."""
    assert (lab.folder / "worker_app" / "scp.py").stat().st_mode & 0o077 == 0
    assert lab.exec("edge", "cat", "/app/config.yaml").stdout == (lab.folder / "config.yaml").read_text(
        "utf-8"
    )


def test_an_external_database_is_used(lab: ComposeLab) -> None:
    """As docs/operate/several-hosts.md says, by EDGE_DATABASE_URL."""
    url = "postgresql://mini_pacs@db.example/mini_pacs"
    words = ("run", "--rm", "--no-deps", "-T", "actors-pacs", "printenv", "DATABASE_URL")
    assert lab.compose(*words, EDGE_DATABASE_URL=url).strip() == url


def test_the_sender_simulator_sends_its_file(lab: ComposeLab) -> None:
    """The command as in README; /tmp/test.dcm exists without a further step."""
    words = "/tmp/test.dcm --host edge --port 11112 --calling-aet ORTHANC --called-aet MINI_EDGE"  # noqa: S108
    [study] = simulate(lab, words)
    assert study in lab.cli("status", "--study", study)
    wait_until(lambda: len(lab.held(study)) == 2, 60, "original and result in the PACS")


def test_the_sender_simulator_generates_instances(lab: ComposeLab) -> None:
    """The command as in README; each study has a number from the database, and so has its patient."""
    words = (
        "--generate 3 --seq-from-db --patient-id EDGE --patient-name TEST^EDGE"
        " --series-description SYNTHETIC --calling-aet ORTHANC"
    )
    studies = simulate(lab, words)
    assert len(studies) == 3
    patients = set()
    for study in studies:
        wait_until(partial(pair_is_held, lab, study), 60, "original and result in the PACS")
        query = {"Level": "Study", "Expand": True, "Query": {"StudyInstanceUID": study}}
        [found] = lab.orthanc("/tools/find", query)
        patients.add(found["PatientMainDicomTags"]["PatientID"])
        assert found["PatientMainDicomTags"]["PatientName"] == "TEST^EDGE"
        series = lab.orthanc("/tools/find", {**query, "Level": "Series"})
        told = {one["MainDicomTags"]["SeriesDescription"] for one in series}
        assert told == {"SYNTHETIC", "AI_RESULT"}
    assert len(patients) == 3
    assert all(re.fullmatch(r"EDGE\d{6}", patient) for patient in patients)


def pair_is_held(lab: ComposeLab, study: str) -> bool:
    """Tell whether the PACS has the one original of that study and its result."""
    return len(lab.held(study)) == 2


def simulate(lab: ComposeLab, options: str) -> list[str]:
    """Run the simulator as users type it; return the accepted studies."""
    sent = lab.exec("edge", "python", "/app/sender_simulator.py", *options.split()).stdout
    return re.findall(r"^study (\S+):", sent, re.MULTILINE)


def test_reset_db_deletes_all_rows_and_the_lab_goes_on(lab: ComposeLab) -> None:
    """The answer to `reset-db` is yes; the next study is received and forwarded as the first was."""
    study, originals = lab.accepted(1)
    lab.wait_results(originals)
    assert "Forgotten" in typed("docker exec -it mini_pacs_edge python /app/cli.py reset-db", "y")
    assert lab.exec("edge", "mini-pacs", "status", "--study", study, check=False).returncode == 1
    _, others = lab.accepted(1)
    lab.wait_results(others)


def test_reset_db_asks_first(lab: ComposeLab) -> None:
    """After another answer than yes nothing is deleted."""
    study, originals = lab.accepted(1)
    lab.wait_results(originals)
    assert "Forgotten" not in typed("docker exec -it mini_pacs_edge python /app/cli.py reset-db", "n")
    assert set(lab.done(study).values()) == {1}


def typed(line: str, answer: str) -> str:
    """Return the output of a command at a terminal, with that answer to its question."""
    with_terminal = shlex.join(["script", "--quiet", "--return", "--command", line, "/dev/null"])
    return run("sh", "-c", f"echo {answer} | {with_terminal}", check=False).stdout


def test_actors_scale(lab: ComposeLab) -> None:
    """`--scale actors-pacs=2 --scale actors-workers=2`: two of each consume, and deliveries are completed."""
    lab.compose("up", "--detach", "--no-recreate", "--scale", "actors-pacs=2", "--scale", "actors-workers=2")
    try:
        wait_until(
            lambda: consuming(lab) == {"pacs": 2, "workers": 2, "sweep": 1}, 60, "two consumers of each"
        )
        _, originals = lab.accepted(6)
        lab.wait_results(originals)
    finally:
        lab.compose(
            "up", "--detach", "--no-recreate", "--scale", "actors-pacs=1", "--scale", "actors-workers=1"
        )
    wait_until(lambda: consuming(lab) == {"pacs": 1, "workers": 1, "sweep": 1}, 60, "one consumer of each")


def consuming(lab: ComposeLab) -> dict[str, int]:
    """Return how many live actor processes serve each queue."""
    alive = [one for one in lab.status()["overview"]["consumers"] if one["alive"]]
    queues = [queue for one in alive for queue in one["queue_names"]]
    return {queue: queues.count(queue) for queue in queues}


def test_the_services_have_the_documented_names(lab: ComposeLab) -> None:
    """`mini_pacs_edge`, and `mini_pacs_edge-app01-1`, `mini_pacs_edge-postgres-1` for the others."""
    names = set(run("docker", "ps", "--filter", f"name={PROJECT}", "--format", "{{.Names}}").stdout.split())
    assert {lab.container(service) for service in SERVICES} <= names
