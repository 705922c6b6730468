"""The cluster's DNS server answers packets; that pods are served by it is test_cluster.py's."""

import pytest

from tests.cluster.dns import answer, parse

QUESTION = bytes.fromhex("abcd01000001000000000000") + b"\x03api\x02ns\x03svc\x00" + bytes.fromhex("00010001")
FOR_IPV6 = QUESTION[:-3] + b"\x1c" + QUESTION[-2:]


def test_a_question_is_read() -> None:
    question = parse(QUESTION)

    assert (question.identity, question.name, question.kind) == (0xABCD, "api.ns.svc", 1)


def test_an_answer_holds_the_question_and_every_address() -> None:
    reply = answer(parse(QUESTION), ["10.0.0.1", "10.0.0.2"])

    assert reply[:8] == bytes.fromhex("abcd858000010002")
    assert reply[12 : len(QUESTION)] == QUESTION[12:]
    assert reply[len(QUESTION) :].count(b"\x00\x04\x0a\x00\x00") == 2


def test_an_unknown_name_does_not_exist() -> None:
    assert answer(parse(QUESTION), None)[:8] == bytes.fromhex("abcd858300010000")


def test_a_known_name_has_no_ipv6_address() -> None:
    assert answer(parse(FOR_IPV6), ["10.0.0.1"])[:8] == bytes.fromhex("abcd858000010000")


@pytest.mark.parametrize("packet", [b"", QUESTION[:5], QUESTION[:12], QUESTION[:20], b"\0" * 12])
def test_what_is_no_question_is_refused(packet: bytes) -> None:
    with pytest.raises(ValueError, match="DNS packet"):
        parse(packet)
