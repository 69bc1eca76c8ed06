from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
import requests
import stripe

from local.stripe_double.testing import NOON, Account, account, sdk
from local.stripe_double.wire import API_VERSION

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("key", ["sk_test_x", "rk_test_x"])
def test_any_test_key_will_do(stripe_account: Account, key: str) -> None:
    assert sdk(stripe_account.url, key).v1.customers.create({}).id


@pytest.mark.parametrize("key", ["sk_live_0123456789abcdef", "pk_test_x", "sk_test_", "hello"])
def test_every_other_key_is_a_401(stripe_account: Account, key: str) -> None:
    with pytest.raises(stripe.AuthenticationError) as refused:
        sdk(stripe_account.url, key).v1.customers.create({})
    assert refused.value.http_status == 401
    assert "0123456789" not in (refused.value.user_message or "")


def test_no_key_is_a_401_and_basic_auth_is_taken(stripe_account: Account) -> None:
    url = f"{stripe_account.url}/v1/customers"
    bare = requests.get(url, timeout=5)
    assert (bare.status_code, bare.json()["error"]["type"]) == (401, "invalid_request_error")
    assert requests.get(url, auth=("sk_test_x", ""), timeout=5).status_code == 200
    assert requests.get(url, headers={"Authorization": "Basic ???"}, timeout=5).status_code == 401


def test_answers_carry_request_id_and_version(stripe_account: Account) -> None:
    first = stripe_account.client.v1.customers.create({}).last_response
    second = stripe_account.client.v1.customers.create({}).last_response
    assert first is not None
    assert second is not None
    assert (first.request_id or "").startswith("req_")
    assert first.request_id != second.request_id
    assert first.headers["Stripe-Version"] == API_VERSION
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.client.v1.customers.retrieve("cus_none")
    assert refused.value.request_id is not None


def test_another_api_version_is_refused(stripe_account: Account) -> None:
    old: stripe.RequestOptions = {"stripe_version": "2025-03-31.basil"}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.client.v1.customers.create({}, old)
    assert refused.value.code == "not_emulated"
    assert stripe.api_version == API_VERSION  # the version that the pinned SDK sends by itself


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/coupons"),
        ("POST", "/v1/quotes"),
        ("PUT", "/v1/customers"),
        ("DELETE", "/v1/billing/meters/mtr_1"),
        ("GET", "/v1/billing/meter_events"),
        ("POST", "/v2/billing/meter_events"),
        ("GET", "/"),
        ("GET", "/v1/customers/cus_1/sources"),
    ],
)
def test_all_else_is_a_404_that_names_it(stripe_account: Account, method: str, path: str) -> None:
    headers = {"Authorization": "Bearer sk_test_x"}
    answer = requests.request(method, f"{stripe_account.url}{path}", headers=headers, timeout=5)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (404, "invalid_request_error", "not_emulated")
    assert error["message"] == f"This double does not emulate {method} {path}"


def test_the_sdk_reads_a_call_that_is_not_emulated(stripe_account: Account) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.client.v1.coupons.create({"percent_off": 10})
    assert (refused.value.http_status, refused.value.code) == (404, "not_emulated")


def test_a_mistake_in_the_double_is_a_500_with_a_traceback(
    stripe_account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stripe_account.double, "customers", None)
    with pytest.raises(stripe.APIError) as failed:
        stripe_account.client.v1.customers.create({})
    assert failed.value.http_status == 500
    assert "AttributeError" in caplog.text


def test_health_clock_and_reset(stripe_account: Account) -> None:
    assert stripe_account.look("health") == {
        "status": "ok",
        "api_version": API_VERSION,
        "now": NOON,
        "lag_seconds": 0,
    }
    moved = stripe_account.control("clock", {"advance_seconds": 90.5})
    assert moved == {"now": NOON + 90, "now_ms": NOON * 1000 + 90_500, "offset_seconds": 90.5}
    stripe_account.customer()
    stripe_account.control("faults", {"faults": [{"kind": "429"}]})
    stripe_account.control("reset")
    assert stripe_account.client.v1.customers.list().data == []
    assert stripe_account.look("requests")["count"] == 1
    assert stripe_account.look("health")["now"] == NOON + 90


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("clock", {"advance_seconds": -1}),
        ("clock", {"advance_seconds": "1"}),
        ("clock", {"advance_seconds": True}),
        ("clock", {}),
        ("clock", {"seconds": 1}),
        ("settings", {"lag_seconds": -1}),
        ("settings", {"lag_seconds": 1.5}),
        ("settings", {"latency_seconds": 61}),
        ("settings", {"late_checks": ["everything"]}),
        ("settings", {"late_checks": "no_meter"}),
        ("faults", {}),
        ("reset", {"all": True}),
        ("clock", [1]),
    ],
)
def test_a_control_that_makes_no_sense_is_a_400(stripe_account: Account, name: str, body: Any) -> None:
    answer = requests.post(f"{stripe_account.url}/_double/{name}", json=body, timeout=5)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_requests_are_counted_by_path_and_method(stripe_account: Account) -> None:
    customer = stripe_account.customer()
    stripe_account.client.v1.customers.retrieve(customer)
    with pytest.raises(stripe.InvalidRequestError):
        stripe_account.client.v1.customers.create(cast(Any, {"nickname": "x"}))
    log = stripe_account.look("requests", path="/v1/customers", method="POST")
    assert (log["count"], log["by_status"]) == (2, {"200": 1, "400": 1})
    assert [request["method"] for request in log["recent"]] == ["POST", "POST"]
    assert stripe_account.look("requests", path=f"/v1/customers/{customer}")["count"] == 1
    assert stripe_account.look("requests")["count"] == 3


def test_headers_and_body_leave_in_one_packet(stripe_account: Account) -> None:
    host, port = stripe_account.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        for _ in range(5):
            connection.sendall(b"GET /v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_x\r\n\r\n")
            received = connection.recv(65_536)
            assert received.startswith(b"HTTP/1.1 200")
            assert received.endswith(b"}")


def test_it_takes_300_requests_a_second() -> None:
    """Measured with plain requests, the SDK's own cost apart; the bound is loose, the figure is printed."""
    with account(latency_seconds=0.005) as stripe_account:
        stripe_account.meter()
        customers = [stripe_account.customer() for _ in range(8)]

        def send(worker: int) -> None:
            with requests.Session() as session:
                session.headers["Authorization"] = "Bearer sk_test_x"
                for number in range(75):
                    body = {
                        "event_name": "ai_credits",
                        "identifier": f"{worker}-{number}",
                        "payload[stripe_customer_id]": customers[worker],
                        "payload[value]": "0.5",
                    }
                    answer = session.post(f"{stripe_account.url}/v1/billing/meter_events", data=body, timeout=5)
                    assert answer.status_code == 200

        started = time.perf_counter()
        with ThreadPoolExecutor(len(customers)) as pool:
            list(pool.map(send, range(len(customers))))
        rate = 600 / (time.perf_counter() - started)
        print(f"{rate:.0f} meter events a second")
        assert rate > 150
        assert len(stripe_account.look("meter_events")["data"]) == 600


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "local.stripe_double", "--port", "0", "--lag-seconds", "7"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        yield started
        if started.poll() is None:
            started.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_a_process_it_serves_and_stops_cleanly(process: subprocess.Popen[str], number: signal.Signals) -> None:
    assert process.stdout is not None
    ready = process.stdout.readline().strip()
    assert ready.startswith("stripe double ready http://127.0.0.1:")
    url = ready.rsplit(" ", 1)[1]
    health = requests.get(f"{url}/_double/health", timeout=5).json()
    assert (health["status"], health["lag_seconds"]) == ("ok", 7)
    assert abs(health["now"] - time.time()) < 5
    assert sdk(url).v1.customers.create({}).id
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


def test_a_held_request_does_not_hold_up_the_end(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    url = process.stdout.readline().strip().rsplit(" ", 1)[1]
    requests.post(f"{url}/_double/faults", json={"faults": [{"kind": "timeout_before"}]}, timeout=5)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as held:
        held.sendall(b"GET /v1/customers HTTP/1.1\r\nHost: x\r\n\r\n")
        while requests.get(f"{url}/_double/requests", timeout=5).json()["count"] < 1:
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
    assert process.returncode == 0


def test_a_taken_port_is_one_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "local.stripe_double", "--port", str(port)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}" in ended.stderr
