"""OpenAI's own Python client works against the gateway with no special case."""

import msgspec
import openai
import pytest

from gateway.accounts.model import LimitName

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
CHAT_TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
RESPONSES_TOOL = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}
BOTH_DIALECTS = pytest.mark.parametrize("model", ["nusantara-base", "nusantara-responses"])


def client_of(gateway, person, *, max_retries=0):
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=person.api_key, max_retries=max_retries)


@pytest.fixture
def client(gateway, sari):
    with client_of(gateway, sari) as official:
        yield official


@pytest.fixture
async def async_client(gateway, sari):
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=sari.api_key, max_retries=0
    ) as official:
        yield official


@BOTH_DIALECTS
async def test_a_response_is_parsed_and_charged_as_its_usage_says(client, books, model):
    answer = client.responses.create(model=model, input="Halo [[sim output=5]]")
    assert answer.status == "completed"
    assert len(answer.output_text.split()) == 5
    assert answer.usage.output_tokens == 5
    entry = await books.entry(answer._request_id)
    assert entry["quota_tokens"] == answer.usage.total_tokens


@BOTH_DIALECTS
def test_a_streamed_response_ends_with_the_whole_object(client, model):
    with client.responses.stream(model=model, input="Halo [[sim output=7]]") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == final.output_text
    assert final.usage.output_tokens == 7


@BOTH_DIALECTS
def test_a_cut_response_is_incomplete_and_says_why(client, model):
    answer = client.responses.create(model=model, input="Cerita [[sim output=50]]", max_output_tokens=20)
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage.output_tokens == 20


@BOTH_DIALECTS
def test_a_response_calls_a_tool_and_takes_its_result(client, model):
    first = client.responses.create(model=model, input="Cuaca? [[sim tool=weather]]", tools=[RESPONSES_TOOL])
    (call,) = first.output
    assert (call.type, call.name) == ("function_call", "weather")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "hujan"}
    second = client.responses.create(
        model=model, previous_response_id=first.id, input=[result], tools=[RESPONSES_TOOL]
    )
    assert second.status == "completed"
    assert second.previous_response_id == first.id


def test_a_streamed_tool_call_arrives_in_pieces_that_join(client):
    with client.responses.stream(
        model="nusantara-base", input="Cuaca? [[sim tool=weather]]", tools=[RESPONSES_TOOL]
    ) as stream:
        pieces = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        (call,) = stream.get_final_response().output
    assert "".join(pieces) == call.arguments
    assert pieces


@BOTH_DIALECTS
def test_a_conversation_goes_on_from_a_stored_response(client, model):
    first = client.responses.create(model=model, input="Nama saya Sari. [[sim output=4]]")
    second = client.responses.create(
        model=model, previous_response_id=first.id, input="Siapa saya? [[sim output=4]]"
    )
    third = client.responses.create(
        model=model, previous_response_id=second.id, input="Dan lagi? [[sim output=4]]"
    )
    assert first.usage.input_tokens < second.usage.input_tokens < third.usage.input_tokens


def test_a_stored_response_is_retrieved_listed_and_deleted(client):
    made = client.responses.create(model="nusantara-base", input="Simpan [[sim output=3]]")
    kept = client.responses.retrieve(made.id)
    assert kept.to_dict() == made.to_dict()
    (item,) = client.responses.input_items.list(made.id)
    assert item.content[0].text == "Simpan [[sim output=3]]"
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.retrieve(made.id)
    assert caught.value.code == "response_not_found"


def test_a_streamed_response_is_stored_as_its_last_event_showed_it(client):
    with client.responses.stream(model="nusantara-base", input="Simpan [[sim output=3]]") as stream:
        final = stream.get_final_response()
    kept = client.responses.retrieve(final.id)
    assert (kept.output_text, kept.usage, kept.status) == (final.output_text, final.usage, "completed")


def test_a_response_that_has_ended_cannot_be_cancelled(client):
    made = client.responses.create(model="nusantara-base", input="Halo [[sim output=1]]")
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(made.id)


@BOTH_DIALECTS
@pytest.mark.parametrize("copies", [1, 2])
def test_a_chat_completion_is_relayed(client, model, copies):
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Hello [[sim output=6]]"}], n=copies
    )
    assert len(answer.choices) == copies
    assert all(len(choice.message.content.split()) == 6 for choice in answer.choices)
    assert answer.usage.completion_tokens == 6 * copies


@pytest.mark.parametrize("wants_usage", [True, False])
async def test_a_chat_stream_shows_usage_only_to_those_who_asked(client, books, wants_usage):
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    stream = client.chat.completions.create(
        model="nusantara-base",
        messages=[{"role": "user", "content": "Hello [[sim output=6]]"}],
        stream=True,
        **options,
    )
    with stream:
        label = stream.response.headers["x-request-id"]
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(text.split()) == 6
    told = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert told == ([6] if wants_usage else [])
    assert (await books.entry(label))["output_text_tokens"] == 6


def test_a_chat_completion_calls_a_tool_and_takes_its_result(client):
    messages = [{"role": "user", "content": "Cuaca? [[sim tool=weather]]"}]
    first = client.chat.completions.create(model="nusantara-base", messages=messages, tools=[CHAT_TOOL])
    (call,) = first.choices[0].message.tool_calls
    assert first.choices[0].finish_reason == "tool_calls"
    messages += [
        first.choices[0].message.to_dict(),
        {"role": "tool", "tool_call_id": call.id, "content": "hujan"},
        {"role": "user", "content": "Jadi?"},
    ]
    second = client.chat.completions.create(model="nusantara-base", messages=messages, tools=[CHAT_TOOL])
    assert second.choices[0].finish_reason == "stop"


async def test_the_async_client_does_the_same(async_client):
    made = await async_client.responses.create(model="nusantara-base", input="Halo [[sim output=3]]")
    assert made.usage.output_tokens == 3
    async with async_client.responses.stream(model="nusantara-base", input="Halo [[sim output=3]]") as stream:
        kinds = [event.type async for event in stream]
    assert kinds[-1] == "response.completed"
    chunks = await async_client.chat.completions.create(
        model="nusantara-base", messages=[{"role": "user", "content": "Halo [[sim output=3]]"}], stream=True
    )
    texts = [chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices]
    assert len("".join(texts).split()) == 3


async def test_embeddings_are_charged_on_their_input(client, books):
    answer = client.embeddings.with_raw_response.create(model="nusantara-base", input=["satu", "dua tiga"])
    parsed = answer.parse()
    assert len(parsed.data) == 2
    entry = await books.entry(answer.headers["x-request-id"])
    assert entry["quota_tokens"] == parsed.usage.prompt_tokens == parsed.usage.total_tokens


def test_models_are_listed_and_shown(client):
    listed = {model.id: model for model in client.models.list()}
    shown = client.models.retrieve("nusantara-base")
    assert listed["nusantara-base"] == shown
    assert (shown.object, shown.context_window, shown.max_output_tokens) == ("model", 32768, 1024)


# ---------------------------------------------------------------- errors


def say_hello(client, **more):
    return client.chat.completions.create(
        model="nusantara-base", messages=[{"role": "user", "content": "Hello [[sim output=1]]"}], **more
    )


def test_a_wrong_value_is_a_bad_request_that_names_the_field(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="nusantara-base", input="Halo", temperature=2)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "temperature")
    assert caught.value.type == "invalid_request_error"


def test_an_unknown_key_is_an_authentication_error(gateway, sari):
    unknown = msgspec.structs.replace(sari, api_key="nsk_live_wrong")
    with client_of(gateway, unknown) as official, pytest.raises(openai.AuthenticationError) as caught:
        official.models.list()
    assert caught.value.code == "invalid_api_key"


async def test_a_forbidden_model_is_a_permission_error(gateway, people):
    sari = await people.join("sari", models=("nusantara-base",))
    with client_of(gateway, sari) as official, pytest.raises(openai.PermissionDeniedError) as caught:
        official.responses.create(model="failover", input="Halo")
    assert caught.value.code == "model_not_allowed"


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(model="no-such-model", input="Halo")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_a_month_that_is_used_up_is_a_rate_limit_error_that_is_not_tried_again(gateway, people):
    sari = await people.join("sari", limits={LimitName.MONTHLY_TOKENS: 10})
    tries = []
    with client_of(gateway, sari, max_retries=3) as official:
        official._client.event_hooks = {"request": [tries.append]}
        with pytest.raises(openai.RateLimitError) as caught:
            say_hello(official)
    assert caught.value.code == "insufficient_quota"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(tries) == 1


async def test_a_full_minute_is_a_rate_limit_error_with_a_time_to_wait(gateway, people):
    sari = await people.join("sari", limits={LimitName.REQUESTS_PER_MINUTE: 1})
    with client_of(gateway, sari) as official, pytest.raises(openai.RateLimitError) as caught:
        [say_hello(official) for _ in range(3)]
    assert caught.value.code == "rate_limit_exceeded"
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60


def test_a_dead_model_is_an_internal_server_error_class(client):
    with pytest.raises(openai.InternalServerError) as caught:
        client.responses.create(model="dead", input="Halo")
    assert (caught.value.status_code, caught.value.code) == (503, "upstream_unavailable")


def test_a_stream_that_fails_raises_what_the_gateway_says(client):
    stream = client.chat.completions.create(
        model="nusantara-base",
        messages=[{"role": "user", "content": "Hello [[sim output=9 error_after=3]]"}],
        stream=True,
    )
    with stream, pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "upstream_error"


def test_a_response_stream_that_fails_ends_with_a_failed_response(client):
    with client.responses.create(
        model="nusantara-base", input="Halo [[sim output=9 reset_after=3]]", stream=True
    ) as stream:
        last = list(stream)[-1]
    assert last.type == "response.failed"
    assert last.response.error.code == "upstream_error"


def test_a_request_falls_over_to_the_next_upstream(client):
    assert client.responses.create(model="failover", input="Halo [[sim output=2]]").usage.output_tokens == 2
