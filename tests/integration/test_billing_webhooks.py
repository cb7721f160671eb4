"""Stripe's events: proved before they are kept, kept once, worked off from the table, whatever Stripe and networks do."""

import asyncio
import hashlib
import hmac
import json
import random
from datetime import UTC, datetime, timedelta

import httpx2
import msgspec
import pytest
from granian.constants import Interfaces
from granian.server.embed import Server

from admin.app import AdminApp, join_parts
from billing.settings import StripeSettings
from billing.subscriptions import store as subscriptions
from billing.sync import service as sync
from billing.sync import worker
from billing.webhooks import service, store
from billing.webhooks.http import BODY_BYTES_MAX, SNAPSHOT_PATH, THIN_PATH, WebhookEndpoint, endpoints
from billing.webhooks.model import ATTEMPTS_MAX, Form
from gateway.clock import SystemClock
from gateway.errors import ConfigurationError
from tests.fakes.processes import free_port
from tests.integration.test_billing_customers import at_stripe
from tests.plugins.billing import spend_exactly
from tests.plugins.cast import join
from tests.plugins.portal import portal_settings
from tests.plugins.proof import SEED, hand_in, length
from tests.plugins.shop import FAILS_LATER, GOOD, SECRET, THIN_SECRET, sign

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)


def event(number=1, kind="customer.subscription.updated", **of):
    created = {"id": f"evt_{number}", "object": "event", "type": kind, "created": 1_795_000_000}
    return {**created, "data": {"object": {"id": "sub_nobody", **of}}}


async def kept(db):
    return {row["event_id"]: row for row in await db.fetch("SELECT * FROM webhook_event")}


# ------------------------------------------------------------------ the door


async def test_an_event_is_kept_once_however_often_it_comes(shop):
    assert [await shop.post(event()) for _ in range(3)] == [200, 200, 200]
    [row] = (await kept(shop.db)).values()
    assert (row["state"], row["form"], row["subject_kind"], row["subject_id"]) == (
        "waiting", "snapshot", "subscription", "sub_nobody",
    )  # fmt: skip
    assert json.loads(row["payload"])["id"] == "evt_1"


async def test_an_event_that_comes_again_and_again_at_once_is_kept_once(shop):
    assert set(await asyncio.gather(*(shop.post(event()) for _ in range(20)))) == {200}
    assert len(await kept(shop.db)) == 1


async def test_what_stripe_did_not_sign_is_not_kept(shop):
    body, now = json.dumps(event()).encode(), int(shop.clock.now().timestamp())
    good = sign(body, SECRET, now)
    forged = body.replace(b"sub_nobody", b"sub_somebody")
    assert await shop.post_raw(forged, good) == 400
    assert await shop.post_raw(body, sign(body, "whsec_another", now)) == 400
    assert await shop.post_raw(body, sign(body, SECRET, now - 301)) == 400
    assert await shop.post_raw(body, sign(body, SECRET, now + 301)) == 400
    assert await shop.post_raw(body) == 400
    assert await shop.post_raw(body, good, good) == 400
    assert await kept(shop.db) == {}


async def test_the_secret_of_one_address_does_not_open_the_other(shop):
    assert await shop.post(event(), path=THIN_PATH, secret=SECRET) == 400
    assert await shop.post(event(), secret=THIN_SECRET) == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"id": 5}',
        b"\xff\xfe",
        b'{"id":"e","type":"t","created":1e99,"data":{"object":{}}}',
    ],
)
async def test_what_is_signed_and_no_event_is_refused(shop, body):
    now = int(shop.clock.now().timestamp())
    assert await shop.post_raw(body, f"t={now},v1={_hmac(body, now)}") == 400
    assert await kept(shop.db) == {}


def _hmac(body, now):
    return hmac.new(SECRET.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()


async def test_only_posts_of_a_reasonable_size_are_read(shop):
    assert await shop.post_raw(b"", method="GET") == 405
    assert await shop.post_raw(b"x" * (BODY_BYTES_MAX + 1), "t=1,v1=a") == 413


async def test_while_postgres_is_away_stripe_is_told_to_send_again(shop):
    def away():
        raise OSError("no route to Postgres")

    shop.endpoints = endpoints(away, shop.clock, shop.settings)
    assert await shop.post(event()) == 503


async def test_a_type_that_asks_for_nothing_is_kept_and_left_alone(shop):
    await shop.post(event(kind="invoiceitem.created"))
    assert (await kept(shop.db))["evt_1"]["state"] == "ignored"
    assert await shop.processor.run() == 0


def test_an_empty_secret_opens_no_door():
    with pytest.raises(ConfigurationError, match="secret"):
        WebhookEndpoint(lambda: None, SystemClock(), secret="", form=Form.SNAPSHOT)


def test_without_a_thin_secret_there_is_no_thin_address():
    settings = StripeSettings(secret_key="sk_test_x", webhook_secret=SECRET)
    assert list(endpoints(lambda: None, SystemClock(), settings)) == [SNAPSHOT_PATH]


async def test_the_portal_takes_events_without_a_form_token_and_only_where_there_is_stripe(shop):
    body, settings = json.dumps(event()).encode(), portal_settings()
    for stripe, status in ((shop.settings, 200), (None, 404)):
        app = AdminApp(settings, lambda: None, stripe)
        app.framework.state["parts"] = join_parts(settings, shop.clock, shop.db)
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1:8081")
        async with client:
            signature = sign(body, SECRET, int(SystemClock().now().timestamp()))
            answer = await client.post(SNAPSHOT_PATH, content=body, headers={"stripe-signature": signature})
        assert answer.status_code == status
    assert len(await kept(shop.db)) == 1


# ------------------------------------------------------------------ working off


async def test_many_events_about_one_thing_ask_stripe_once(shop, sari):
    subscription = await shop.subscribed(sari, "basic")
    path = f"/v1/subscriptions/{subscription.subscription_id}"
    before = reads_of(shop, path)
    for number in range(50):
        await shop.post(event(number, id=subscription.subscription_id))
    assert await shop.processor.run() == 50
    assert reads_of(shop, path) == before + 1
    assert {row["state"] for row in (await kept(shop.db)).values()} <= {"done", "ignored"}


def reads_of(shop, path):
    return sum(request["path"] == path for request in shop.sandbox.get("state")["requests"])


async def test_what_is_nobodys_of_ours_is_noted_as_that(shop):
    await shop.post(event(1))
    await shop.post(event(2, "invoice.paid", id="in_nobody"))
    await shop.post(event(3, "charge.dispute.created", id="du_nobody"))
    await shop.post(event(4, "customer.deleted", id="cus_nobody"))
    await shop.post(event(5, "checkout.session.completed", id="cs_nobody"))
    await shop.processor.run()
    assert {row["outcome"] for row in (await kept(shop.db)).values()} == {"not_ours"}


async def test_while_stripe_is_down_events_wait_longer_and_longer_and_then_are_done(shop, sari):
    await shop.buy(sari, "basic")
    events = shop.new_events()
    shop.sandbox.faults({"kind": "reject", "method": "GET", "status": 503, "times": None})
    for fresh in events:
        await shop.post(fresh)
    await shop.processor.run()
    assert await shop.processor.run() == 0
    waiting = [row for row in (await kept(shop.db)).values() if row["state"] == "waiting"]
    assert {(row["attempts"], row["outcome"]) for row in waiting} == {(1, "stripe_fault")}
    assert {row["due_at"] for row in waiting} == {shop.clock.now() + timedelta(seconds=5)}
    shop.sandbox.faults()
    shop.clock.move(timedelta(seconds=5))
    await shop.processor.run()
    assert await shop.standing(sari) == ("basic", "active")
    assert await store.count_waiting(shop.db) == 0


async def test_one_thing_that_fails_holds_up_no_other(shop, sari, budi):
    failing = await shop.subscribed(sari, "basic")
    await shop.buy(budi, "standard")
    shop.sandbox.faults(
        {
            "kind": "reject",
            "method": "GET",
            "path": f"/v1/subscriptions/{failing.subscription_id}",
            "times": None,
        }
    )
    await shop.post(event(id=failing.subscription_id))
    await shop.catch_up()
    assert await shop.standing(budi) == ("standard", "active")
    assert (await kept(shop.db))["evt_1"]["state"] == "waiting"


async def test_an_event_is_given_up_in_the_end_and_can_be_tried_again(shop):
    shop.sandbox.faults({"kind": "reject", "method": "GET", "times": None})
    await shop.post(event())
    await shop.db.execute("UPDATE webhook_event SET attempts = $1", ATTEMPTS_MAX - 1)
    await shop.processor.run()
    [failed] = await store.list_failed(shop.db, 10)
    assert (failed.event_id, failed.outcome, failed.attempts) == ("evt_1", "stripe_fault", ATTEMPTS_MAX)
    shop.sandbox.faults()
    assert await store.retry_failed(shop.db, "evt_1", shop.clock.now())
    assert not await store.retry_failed(shop.db, "evt_1", shop.clock.now())
    await shop.processor.run()
    assert (await kept(shop.db))["evt_1"]["state"] == "done"


async def test_what_somebody_took_and_never_finished_is_taken_again(shop):
    await shop.post(event())
    now = shop.clock.now()
    assert await store.claim(shop.db, now=now, lease_until=now + service.LEASE, limit=10)
    assert await shop.processor.run() == 0
    shop.clock.move(service.LEASE)
    assert await shop.processor.run() == 1


async def test_events_of_long_ago_are_forgotten_unless_they_failed(shop):
    await shop.post(event(1, "invoiceitem.created"))
    await shop.post(event(2))
    await shop.db.execute(
        "UPDATE webhook_event SET state = 'failed', ended_at = due_at WHERE event_id = 'evt_2'"
    )
    shop.clock.move(service.KEPT + timedelta(seconds=1))
    await service.clear(shop.db, shop.clock)
    assert set(await kept(shop.db)) == {"evt_2"}


async def test_an_answer_of_before_never_replaces_a_newer_one(shop, sari):
    found = await shop.subscribed(sari, "basic")
    older = msgspec.structs.replace(found, status="canceled", asked_at=found.asked_at - timedelta(seconds=1))
    await subscriptions.save_subscription(shop.db, older)
    [still] = await subscriptions.subscriptions_of(shop.db, sari.account_id)
    assert still.status == "active"


# ------------------------------------------------------------------ thin events


async def test_a_thin_event_does_what_its_snapshot_does(shop, sari):
    await shop.buy(sari, "basic")
    [found] = shop.get("/v1/subscriptions")["data"]
    thin = {
        "id": "evt_thin",
        "object": "v2.core.event",
        "type": "v1.customer.subscription.created",
        "created": "2026-11-23T02:00:00.000Z",
        "related_object": {"id": found["id"], "type": "subscription", "url": "/v1/subscriptions"},
    }
    assert await shop.post(thin, path=THIN_PATH) == 200
    await shop.processor.run()
    assert await shop.standing(sari) == ("basic", "active")


async def test_usage_that_stripe_finds_wrong_later_is_taken_back_to_the_batch(shop, consumer, sender):
    shop.sandbox.post("settings", synchronous_validation=False)
    await spend_exactly(shop.db, consumer, TEN, 7 * 10**9)
    [meter] = [m for m in shop.get("/v1/billing/meters")["data"] if m["event_name"] == "llm_spend_idr"]
    headers = {"Authorization": "Bearer sk_test_x"}
    shop.sandbox.send("POST", f"/v1/billing/meters/{meter['id']}/deactivate", headers=headers)
    await worker.run(shop.db, shop.clock, sender, cutoff=sync.closed_before(shop.clock.now(), 300))
    assert await shop.db.fetchval("SELECT state FROM stripe_batch") == "accepted"
    shop.move(minutes=1)
    thin = [found for found in shop.events("/v2/core/events") if "meter" in found["type"]]
    for found in thin:
        found.pop("data", None)
        assert await shop.post(found, path=THIN_PATH) == 200
    await shop.processor.run()
    row = await shop.db.fetchrow("SELECT state, last_error FROM stripe_batch")
    assert (row["state"], row["last_error"]) == ("dead", "archived_meter")


# ------------------------------------------------------------------ over the network


def registered(shop, port):
    """Tell the sandbox where to deliver; return the secret that it signs with."""
    hook = f"url=http://127.0.0.1:{port}{SNAPSHOT_PATH}&enabled_events[0]=*"
    headers = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}
    _, _, answer = shop.sandbox.send("POST", "/v1/webhook_endpoints", hook, headers)
    return json.loads(answer)["secret"]


async def test_the_sandbox_delivers_over_the_network_and_a_plan_changes(shop, sari):
    port = free_port()
    settings = msgspec.structs.replace(shop.settings, webhook_secret=registered(shop, port))
    made = endpoints(lambda: shop.db, SystemClock(), settings)

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await made[scope["path"]](scope, receive, send)

    server = Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False)
    serving = asyncio.create_task(server.serve())
    try:
        shop.sandbox.post("deliveries/rules", rules=[{"action": "duplicate", "copies": 2, "times": None}])
        await shop.buy(sari, "basic")
        await asyncio.to_thread(shop.sandbox.post, "deliveries/flush")
        states = {d["state"] for d in shop.sandbox.get("deliveries")["deliveries"]}
    finally:
        server.stop()
        await serving
    assert states == {"delivered"}
    shop.clock.moment = SystemClock().now()
    await shop.processor.run()
    assert await shop.standing(sari) == ("basic", "active")


# ------------------------------------------------------------------ everything at once

STATE = {
    "stripe_subscription": "asked_at",
    "stripe_invoice": "asked_at",
    "stripe_dispute": "asked_at",
    "account_entitlement": "changed_at",
    "checkout_session": "created_at",
}


async def state_of(db):
    """Everything that events lead to, but not when it was heard."""
    found = {}
    for table, heard in STATE.items():
        rows = await db.fetch(f"SELECT to_jsonb(t) - '{heard}' AS row FROM {table} t")
        found[table] = sorted(row["row"] for row in rows)
    rows = await db.fetch("SELECT account_id, plan_id, status FROM account")
    found["account"] = sorted(map(str, rows))
    return found


async def forget(db):
    """Know nothing of what has happened but which sessions were opened."""
    for table in (
        "stripe_subscription",
        "stripe_invoice",
        "stripe_dispute",
        "account_entitlement",
        "webhook_event",
    ):
        await db.execute(f"DELETE FROM {table}")
    await db.execute("UPDATE checkout_session SET state = 'open'")
    await db.execute("UPDATE account SET plan_id = 'free', status = 'active'")


async def live(shop, people, months, dice):
    """Let people buy, change their minds, fail to pay, pay, and dispute, for some months."""
    for person in people:
        await shop.subscribed(
            person, dice.choice(["basic", "standard", "pro", "payg"]), dice.choice([GOOD, FAILS_LATER])
        )
    for month in range(months):
        shop.move_to(datetime(2026 + (12 + month) // 13, (11 + month) % 12 + 1, 1, 1, tzinfo=UTC))
        await shop.catch_up()
        for person in people:
            await change_something(shop, person, dice)
        shop.move(days=dice.randint(2, 9))
        await shop.catch_up()


async def change_something(shop, person, dice):
    [*_, latest] = await subscriptions.subscriptions_of(shop.db, person.account_id)
    plan, _ = await shop.standing(person)
    action = dice.choice(["nothing", "plan", "cancel", "pay", "dispute"])
    if latest.status == "canceled":
        await shop.subscribed(person, dice.choice(["basic", "pro"]))
    elif action == "plan" and latest.status == "active" and latest.held_plan_id is None and plan != "payg":
        wanted = dice.choice([name for name in ("basic", "standard", "pro") if name != latest.plan_id])
        await shop.use_card(person, GOOD)
        await shop.subscriptions.change_plan(person.account_id, wanted)
    elif action == "cancel":
        await shop.subscriptions.cancel(person.account_id)
    elif action == "pay" and latest.status == "past_due":
        await shop.use_card(person, GOOD)
        assert await shop.pay_open_invoice(person) == 303
    elif action == "dispute":
        [invoice, *_] = shop.get(f"/v1/invoices?status=paid&subscription={latest.subscription_id}")["data"]
        if invoice["total"] and shop.get("/v1/disputes")["data"] == []:
            shop.sandbox.post("disputes", invoice=invoice["id"])


async def deliver_chaos(shop, history, deliveries, dice):
    """Deliver every event at least once, in any order, many times, among forged ones; work off now and then."""
    now = int(shop.clock.now().timestamp())
    queue = history + dice.choices(history, k=max(0, deliveries - len(history)))
    dice.shuffle(queue)
    for found in queue:
        body = json.dumps(found).encode()
        assert await shop.post_raw(body, sign(body, SECRET, now)) == 200
        kind = dice.randrange(8)
        if kind == 0:
            forged = json.dumps({**found, "id": "evt_forged", "type": "customer.deleted"}).encode()
            assert await shop.post_raw(forged, sign(body, SECRET, now)) == 400
            assert await shop.post_raw(body, sign(body, SECRET, now - 3600)) == 400
        elif kind == 1 and dice.randrange(10) == 0:
            await shop.processor.run()
    await shop.processor.run()


async def prove(shop, *, people, months, deliveries, seed):
    dice = random.Random(seed)
    everybody = [await join(shop.db, f"person{number}@example.com") for number in range(people)]
    await live(shop, everybody, months, dice)
    expected, history = await state_of(shop.db), shop.events()
    assert len(at_stripe(shop)) == people
    await forget(shop.db)
    await deliver_chaos(shop, history, deliveries, dice)
    assert await state_of(shop.db) == expected
    rows = await kept(shop.db)
    assert set(rows) == {found["id"] for found in history}
    assert {row["state"] for row in rows.values()} <= {"done", "ignored"}
    return len(history)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
async def test_deliveries_in_any_order_and_number_lead_to_the_same_state(shop):
    deliveries = length("deliveries", 500)
    events = await prove(
        shop, people=deliveries // 200 + 2, months=deliveries // 1_000 + 2, deliveries=deliveries, seed=SEED
    )
    assert deliveries // 5 < events < deliveries
    hand_in(deliveries=deliveries, events=events)
