"""The SROS 2 policies: of the schema's form, and no wider or narrower than what the nodes do in a real graph.

The rules of form are those of sros2's policy.xsd, in a few lines, as no validator is a dependency.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from egowm_nodes.launching import node_table
from egowm_nodes.stress.probe import Probe, StressError
from egowm_nodes.stress.system import System
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint
from tests.nodes.rig import DOMAIN

SECURITY = Path(__file__).parents[2] / "ros_ws" / "src" / "egowm_bringup" / "security"
POLICIES = sorted(path.name.split(".")[0] for path in SECURITY.glob("*.policy.xml"))
NODES = ("world_model", "drift_monitor", "planner")
KINDS = {
    "topics": ("topic", ("publish", "subscribe")),
    "services": ("service", ("reply", "request")),
    "actions": ("action", ("call", "execute")),
}
# allowed although a base's node with the default parameters does not use it
UNUSED = {
    "world_model": {
        ("subscribe", "/clock"),  # with use_sim_time
        ("subscribe", "/joint_states"),  # of embodiments with joints
        ("subscribe", "/joint_trajectory"),
        ("subscribe", "/tf"),  # where tf2_ros is installed
        ("subscribe", "/tf_static"),
    },
    "drift_monitor": {("subscribe", "/clock")},
    "planner": {("subscribe", "/clock")},
}


def _of_an_action(right: str, name: str) -> set[tuple[str, str]]:
    """What ``execute`` and ``call`` stand for."""
    hear, ask = {"execute": ("publish", "reply"), "call": ("subscribe", "request")}[right]
    topics = {(hear, f"{name}/_action/{topic}") for topic in ("feedback", "status")}
    return topics | {(ask, f"{name}/_action/{service}") for service in ("send_goal", "cancel_goal", "get_result")}


def allowed(name: str) -> set[tuple[str, str]]:
    """(right, full name) of everything that a node's policy allows."""
    found = set()
    profile = ElementTree.parse(SECURITY / f"{name}.policy.xml").find(".//profile")
    assert profile is not None
    for rules in profile:
        for right, value in rules.attrib.items():
            assert value == "ALLOW"
            for item in rules:
                text = (item.text or "").strip()
                full = text if text.startswith("/") else f"/{text}".replace("/~", f"/{name}")
                found |= _of_an_action(right, full) if rules.tag == "actions" else {(right, full)}
    return found


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_has_the_form_of_the_schema(name: str) -> None:
    policy = ElementTree.parse(SECURITY / f"{name}.policy.xml").getroot()
    assert (policy.tag, policy.attrib) == ("policy", {"version": "0.2.0"})
    (enclave,) = policy.findall("enclaves/enclave")
    assert enclave.attrib == {"path": f"/egowm/{name}"}
    (profile,) = enclave.findall("profiles/profile")
    assert profile.attrib == {"ns": "/", "node": name}
    for rules in profile:
        word, rights = KINDS[rules.tag]
        assert set(rules.attrib) <= set(rights) and len(rules)
        texts = [(item.text or "") for item in rules]
        assert {item.tag for item in rules} == {word} and all(texts)
        assert texts == sorted(set(texts)) and "*" not in "".join(texts)


def test_every_node_that_may_meet_a_robot_has_a_policy() -> None:
    entries = {entry.name for mode in node_table.MODES for entry in node_table.nodes(mode)}
    assert set(NODES) <= set(POLICIES) <= entries


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    directory = tmp_path_factory.mktemp("policies")
    checkpoint = save_tiny_checkpoint(directory / "tiny")
    with pytest.MonkeyPatch.context() as environment:
        for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
            environment.setenv(name, "")  # put back as it was: the system sets them
        with System(directory, domain_id=DOMAIN) as system, Probe(domain_id=DOMAIN) as probe:
            values = {"checkpoint": str(checkpoint), "planner": True}
            system.start_all(node_table.plan(node_table.BASE, values))
            probe.wait_active(list(NODES))
            yield probe


@pytest.mark.parametrize("name", NODES)
def test_a_policy_allows_what_the_node_uses_and_nothing_more(graph: Probe, name: str) -> None:
    node = graph.node

    def used() -> set[tuple[str, str]]:
        return (
            {("publish", topic) for topic, _ in node.get_publisher_names_and_types_by_node(name, "/")}
            | {("subscribe", topic) for topic, _ in node.get_subscriber_names_and_types_by_node(name, "/")}
            | {("reply", service) for service, _ in node.get_service_names_and_types_by_node(name, "/")}
            | {("request", service) for service, _ in node.get_client_names_and_types_by_node(name, "/")}
        )

    assert UNUSED[name] <= allowed(name)
    wanted = allowed(name) - UNUSED[name]
    try:
        graph.until(lambda: used() - UNUSED[name] == wanted, "the graph to be known", timeout_s=20.0)
    except StressError:
        assert used() - UNUSED[name] == wanted  # shows which
        raise
