"""Workers are programs of other vendors: they reach the edge and nothing else."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.compose_lab import PROJECT, WORKERS, ComposeLab, once, run

Target = tuple[str, int]
OPEN = "open"

TRIES = """
import fcntl, json, socket, struct, sys
from concurrent.futures import ThreadPoolExecutor

def address(text):
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(text))

def route(host, gateway):
    # SIOCADDRT with a struct rtentry of <linux/route.h>: RTF_UP | RTF_GATEWAY | RTF_HOST
    entry = struct.pack("@L16s16s16sHhLPhPLLH0L", 0, address(host), address(gateway),
                        address("255.255.255.255"), 7, 0, 0, 0, 0, 0, 0, 0, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some:
        fcntl.ioctl(some, 0x890B, entry)

def reach(target):
    try:
        socket.create_connection(target, 4).close()
    except OSError as error:
        return str(error)
    return "open"

targets, routes = json.loads(sys.argv[1])
for host, gateway in routes:
    route(host, gateway)
with ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(reach, map(tuple, targets)))))
"""
"""The attempt of a container: add host routes, then connect to each target."""

LOCAL_ADDRESSES = """
import json, re
text = open("/proc/net/fib_trie").read()
print(json.dumps(sorted(set(re.findall(r"-- ([0-9.]+)\\n +/32 host LOCAL", text)))))
"""


def words(targets: Sequence[Target], routes: Sequence[tuple[str, str]] = ()) -> list[str]:
    """Return the attempt as a command line."""
    return ["python", "-c", TRIES, json.dumps([list(targets), list(routes)])]


def answers(targets: Sequence[Target], printed: str) -> dict[Target, str]:
    """Return the outcome for each target."""
    return dict(zip(targets, json.loads(printed), strict=True))


def address(lab: ComposeLab, service: str, network: str) -> str:
    """Return the address of a service on one of the networks."""
    return str(lab.inspect(service)["NetworkSettings"]["Networks"][f"{PROJECT}_{network}"]["IPAddress"])


def gateways() -> set[str]:
    """Return every address of the engine's host to which a container could send packets."""
    found = once(["--network", "host"], "python", "-c", LOCAL_ADDRESSES)
    return {one for one in json.loads(found) if not one.startswith("127.")}


def inside(lab: ComposeLab) -> list[Target]:
    """Return the ports of Orthanc and PostgreSQL by name and by address, and those of OHIF."""
    ports = {"orthanc": (4242, 8042), "postgres": (5432,), "ohif": (3000,)}
    return [
        (host, port)
        for service, numbers in ports.items()
        for host in (service, lab.container(service), address(lab, service, "pacs_net"))
        for port in numbers
    ]


@pytest.mark.guarantee("G7")
def test_workers_reach_the_edge_and_nothing_else(lab: ComposeLab) -> None:
    """Other services are unreachable by name, by address, and by the ports published on the host."""
    published = (lab.orthanc_port, lab.ohif_port, 8042, 3000, 4242, 5432)
    around = [(gateway, port) for gateway in gateways() for port in published]
    assert len(around) >= 2 * len(published)  # at least the gateways of our two networks
    targets = [("edge", 11112), *inside(lab), *around]
    with ThreadPoolExecutor(len(WORKERS)) as pool:
        found = list(pool.map(lambda worker: lab.exec(worker, *words(targets)).stdout, WORKERS))
    for printed in found:
        told = answers(targets, printed)
        assert [target for target, answer in told.items() if answer == OPEN] == [("edge", 11112)], told


def test_members_of_the_pacs_network_reach_what_workers_do_not(lab: ComposeLab) -> None:
    """The same attempt succeeds from the PACS network, so its failure elsewhere is meaningful."""
    targets = inside(lab)
    told = answers(targets, lab.exec("actors-pacs", *words(targets)).stdout)
    assert set(told.values()) == {OPEN}, told


@pytest.mark.guarantee("G7")
@pytest.mark.parametrize("through", ["edge", "actors-workers", "gateway"])
def test_no_container_routes_between_the_networks(lab: ComposeLab, through: str) -> None:
    """A worker with NET_ADMIN finds no way through a member of both networks, or the gateway."""
    network = f"{PROJECT}_workers_net"
    [found] = json.loads(run("docker", "network", "inspect", network).stdout)
    via = (
        found["IPAM"]["Config"][0]["Gateway"]
        if through == "gateway"
        else address(lab, through, "workers_net")
    )
    hosts = {service: address(lab, service, "pacs_net") for service in ("orthanc", "postgres")}
    targets = [(hosts["orthanc"], 4242), (hosts["orthanc"], 8042), (hosts["postgres"], 5432)]
    attempt = words(targets, [(host, via) for host in hosts.values()])
    printed = once(["--network", network, "--cap-add", "NET_ADMIN"], *attempt)
    assert OPEN not in answers(targets, printed).values()


@pytest.mark.guarantee("G7")
@pytest.mark.parametrize("service", ["edge", "actors-workers"])
def test_a_member_of_both_networks_is_no_router(lab: ComposeLab, service: str) -> None:
    """The kernel forwards nothing in its network namespace, even if answers would find a way back."""
    assert lab.exec(service, "cat", "/proc/sys/net/ipv4/ip_forward").stdout.strip() == "0"


def test_the_networks_have_the_expected_containers(lab: ComposeLab) -> None:
    """workers_net has edge, actors-workers and workers, and is internal; pacs_net has all but the workers."""
    members = {}
    for name in ("pacs_net", "workers_net"):
        [found] = json.loads(run("docker", "network", "inspect", f"{PROJECT}_{name}").stdout)
        assert found["Internal"] == (name == "workers_net")
        members[name] = {one["Name"] for one in found["Containers"].values()}
    both = {lab.container("edge"), lab.container("actors-workers")}
    assert members["workers_net"] == both | {lab.container(worker) for worker in WORKERS}
    others = ("actors-pacs", "actors-sweep", "scheduler", "orthanc", "ohif", "postgres", "console")
    assert members["pacs_net"] == both | {lab.container(service) for service in others}
