from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from sidecar.dns.answer import answer
from sidecar.dns.names import Names, Surroundings
from sidecar.dns.query import parse_query
from sidecar.errors import DnsQueryError
from tests.support.dns_messages import addresses, external, in_cluster, names, parsed, query, truncated

REVIEWS = "reviews.default.svc.cluster.local"
TABLE = names(
    in_cluster("reviews", "10.0.0.1", v6=("fd00::1",)),
    in_cluster("ratings", "10.0.0.2", namespace="other"),
    external("api.example.com", "240.240.0.1"),
    external("*.example.org", "240.240.0.2"),
    external("*.deep.example.org", "240.240.0.3"),
    external("www.example.org", "240.240.0.4"),
)


def ask(name: str, rdtype: str = "A", table: Names = TABLE, **options: object) -> dns.message.Message:
    wire = query(name, rdtype, **options)
    response = answer(parse_query(wire), table, stream=False, turn=0)
    assert response is not None
    message = parsed(response)
    assert dns.message.from_wire(wire).is_response(message)
    return message


def is_passed_on(name: str, rdtype: str = "A", rdclass: str = "IN") -> bool:
    wire = query(name, rdtype, rdclass=rdclass)
    return answer(parse_query(wire), TABLE, stream=False, turn=0) is None


def test_an_answer_is_authoritative_and_lives_for_30_seconds() -> None:
    found = ask(REVIEWS)
    assert found.rcode() == dns.rcode.NOERROR
    assert dns.flags.to_text(found.flags) == "QR AA RD RA"
    [rrset] = found.answer
    assert rrset.to_text() == f"{REVIEWS}. 30 IN A 10.0.0.1"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("reviews", ["10.0.0.1"]),
        ("reviews.default", ["10.0.0.1"]),
        ("reviews.default.svc", ["10.0.0.1"]),
        ("ReViews.DEFAULT.svc.cluster.LOCAL.", ["10.0.0.1"]),
        ("ratings.other", ["10.0.0.2"]),
        ("ratings.other.svc", ["10.0.0.2"]),
        ("api.example.com", ["240.240.0.1"]),
        ("a.example.org", ["240.240.0.2"]),
        ("a.b.example.org", ["240.240.0.2"]),
        ("a.b.deep.example.org", ["240.240.0.3"]),
        ("www.example.org", ["240.240.0.4"]),
    ],
)
def test_the_names_of_a_host_lead_to_its_addresses(name: str, expected: list[str]) -> None:
    assert addresses(ask(name)) == expected


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("api.example.com", "api.example.com"),
        ("reviews.default", "reviews.default"),
        ("ratings.other", "ratings.other"),
        ("a.example.org", "a.example.org"),
    ],
)
def test_a_name_with_the_first_search_domain_is_an_alias(name: str, alias: str) -> None:
    found = ask(f"{name}.default.svc.cluster.local")
    cname, rrset = found.answer
    assert cname.to_text() == f"{name}.default.svc.cluster.local. 30 IN CNAME {alias}."
    assert rrset.name.to_text() == f"{alias}."
    assert addresses(found) == addresses(ask(name))


def test_a_service_of_the_namespace_needs_no_alias() -> None:
    assert len(ask(REVIEWS).answer) == 1


def test_the_other_family_has_no_data_so_that_clients_do_not_ask_elsewhere() -> None:
    assert addresses(ask(REVIEWS, "AAAA")) == ["fd00::1"]
    found = ask("api.example.com", "AAAA")
    assert (found.rcode(), found.answer) == (dns.rcode.NOERROR, [])
    found = ask("api.example.com.default.svc.cluster.local", "AAAA")
    assert [each.rdtype for each in found.answer] == [dns.rdatatype.CNAME]


@pytest.mark.parametrize(
    "name",
    [
        "www.example.com",
        "example.org",
        "ratings",
        "reviews.svc.cluster.local",
        "reviews.default.svc.cluster.local.cluster.local",
        "api.example.com.svc.cluster.local",
        "default.svc.cluster.local",
        ".",
        r"api\.example.com",
    ],
)
def test_other_names_are_passed_on(name: str) -> None:
    assert is_passed_on(name)


@pytest.mark.parametrize("rdtype", ["MX", "SRV", "TXT", "PTR", "ANY", "HTTPS", "SOA"])
def test_other_types_are_passed_on(rdtype: str) -> None:
    assert is_passed_on(REVIEWS, rdtype)


def test_other_classes_are_passed_on() -> None:
    assert is_passed_on(REVIEWS, rdclass="CH")


def test_the_addresses_take_turns() -> None:
    table = names(external("a.example.com", "10.0.0.1", "10.0.0.2", "10.0.0.3"))
    parsed_query = parse_query(query("a.example.com"))
    firsts = []
    for turn in range(4):
        response = answer(parsed_query, table, stream=False, turn=turn)
        assert response is not None
        found = addresses(parsed(response))
        assert sorted(found) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
        firsts.append(found[0])
    assert firsts == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"]


class TestSizes:
    MANY = names(external("many.example.com", *(f"10.0.{n // 250}.{n % 250 + 1}" for n in range(1000))))

    @pytest.mark.parametrize(
        ("options", "limit"),
        [
            ({}, 512),
            ({"use_edns": 0, "payload": 1232}, 1232),
            ({"use_edns": 0, "payload": 4096}, 4096),
            ({"use_edns": 0, "payload": 100}, 512),
        ],
    )
    def test_a_datagram_has_as_many_addresses_as_the_client_accepts(
        self, options: dict[str, int], limit: int
    ) -> None:
        wire = query("many.example.com", **options)
        response = answer(parse_query(wire), self.MANY, stream=False, turn=0)
        assert response is not None
        assert limit - 28 < len(response) <= limit
        assert truncated(parsed(response))

    def test_an_alias_counts_too(self) -> None:
        wire = query("many.example.com.default.svc.cluster.local")
        response = answer(parse_query(wire), self.MANY, stream=False, turn=0)
        assert response is not None
        assert 512 - 28 < len(response) <= 512

    def test_over_tcp_there_is_room_for_all(self) -> None:
        response = answer(parse_query(query("many.example.com")), self.MANY, stream=True, turn=0)
        assert response is not None
        assert len(addresses(parsed(response))) == 1000
        assert not truncated(parsed(response))

    def test_over_tcp_a_message_has_65535_bytes_at_most(self) -> None:
        table = names(
            external("a.example.com", *(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(5000)))
        )
        response = answer(parse_query(query("a.example.com")), table, stream=True, turn=0)
        assert response is not None
        assert 65000 < len(response) <= 65535
        assert truncated(parsed(response))


class TestEdns:
    def test_a_client_with_edns_gets_edns(self) -> None:
        found = ask(REVIEWS, use_edns=0, payload=1232, want_dnssec=True)
        assert (found.edns, found.payload) == (0, 4096)
        assert found.ednsflags & dns.flags.DO
        assert ask(REVIEWS).edns == -1

    def test_a_later_version_is_refused_as_rfc_6891_demands(self) -> None:
        found = ask(REVIEWS, use_edns=1)
        assert (found.rcode(), found.edns, found.answer) == (dns.rcode.BADVERS, 0, [])

    def test_options_are_accepted(self) -> None:
        assert addresses(ask(REVIEWS, use_edns=0, options=[dns.edns.CookieOption(b"12345678", b"")]))

    def test_a_record_that_ends_early_is_a_format_error(self) -> None:
        wire = query(REVIEWS, use_edns=0)
        with pytest.raises(DnsQueryError) as raised:
            answer(parse_query(wire[:-1]), TABLE, stream=False, turn=0)
        assert parsed(raised.value.answer).rcode() == dns.rcode.FORMERR


def test_a_full_name_of_another_host_is_never_hidden_by_a_short_one() -> None:
    table = names(in_cluster("api", "10.0.0.1", namespace="com"), external("api.com", "240.240.0.9"))
    assert addresses(ask("api.com", table=table)) == ["240.240.0.9"]


def test_short_names_belong_to_the_own_cluster() -> None:
    table = names(in_cluster("reviews", "10.0.0.1"), around=Surroundings("default", "svc.other.example", ""))
    assert addresses(ask(REVIEWS, table=table)) == ["10.0.0.1"]
    assert answer(parse_query(query("reviews.default")), table, stream=False, turn=0) is None
