"""Tests of who may see the page."""

import pytest

from hrl.dashboard.access import Access, access_for


def test_by_default_only_this_machine_is_served_and_asked_for_nothing() -> None:
    access = access_for("")
    assert (access.host, access.token) == ("127.0.0.1", "")
    assert access.admits("127.0.0.1:8050", "")
    assert access.admits("localhost:8050", "")
    assert access.admits("[::1]:8050", "")


def test_another_page_cannot_read_this_one_by_a_name_of_its_own() -> None:
    assert not access_for("").admits("evil.example:8050", "")
    assert not access_for("").admits("127.0.0.1.evil.example", "")


def test_an_ipv6_address_may_have_the_brackets_of_a_pages_address():
    assert access_for("[::1]") == access_for("::1") == Access("::1", "")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "::1"])
def test_addresses_of_this_machine_alone_need_no_token(host: str) -> None:
    assert access_for(host).token == ""
    assert access_for(host).admits(f"{host}:1" if ":" not in host else f"[{host}]:1", "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "cluster-login"])
def test_addresses_that_others_reach_ask_for_a_token(host: str) -> None:
    access = access_for(host)
    assert len(access.token) > 20
    assert access.token != access_for(host).token
    assert access.admits("anything:8050", access.token)
    for wrong in ("", "x", access.token[:-1], access.token + "x", "é"):
        assert not access.admits("anything:8050", wrong)
    assert access.token not in repr(access)


def test_a_token_is_asked_for_under_local_names_too() -> None:
    assert not Access("0.0.0.0", "secret").admits("localhost", "")
