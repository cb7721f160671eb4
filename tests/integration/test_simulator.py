"""The model simulator: what a prompt can script, and that its journal tells the truth."""

import gzip
import json
import urllib.error
import urllib.request
from http.client import IncompleteRead, RemoteDisconnected

import openai
import pytest

from gateway.errors import InvalidValue
from gateway.upstream.simulator.script import Fault, FaultKind, Script, UsageKind, parse_script
from gateway.upstream.simulator.tokens import compose, count_input, split_words
from tests.fakes.processes import ChildProcess, free_port, running_simulator

CHAT = "/chat/completions"
RESPONSES = "/responses"
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "kelvin"]}},
}


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    with running_simulator(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture
def client(simulator):
    with openai.OpenAI(base_url=simulator.base_url, api_key="unused", max_retries=0) as official:
        yield official


def post(simulator, path, body, request_id="req_unnamed"):
    """POST and return the whole body; urllib raises for error statuses and broken connections."""
    request = urllib.request.Request(
        simulator.base_url + path,
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", "x-request-id": request_id},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


def chat(prompt, **more):
    return {"model": "nusantara-base", "messages": [{"role": "user", "content": prompt}], **more}


def respond(prompt, **more):
    return {"model": "nusantara-base", "input": prompt, **more}


def chat_stream(prompt, **more):
    return chat(prompt, stream=True, stream_options={"include_usage": True}, **more)


def events(body):
    """The data of each event of a stream with LF line ends."""
    return [line.removeprefix("data: ") for line in body.decode().split("\n") if line.startswith("data: ")]


# ---------------------------------------------------------------- the directive


def test_a_prompt_without_a_directive_asks_for_nothing():
    assert parse_script("just a [sim] question [[1]]") == Script()


def test_a_directive_sets_what_it_names():
    script = parse_script("hi [[sim output=7 pace_ms=3 usage=zero comments=1]] and [[sim chunk_tokens=2]]")
    assert script == Script(output=7, pace_ms=3, usage=UsageKind.ZERO, comments=True, chunk_tokens=2)


def test_the_earliest_fault_wins():
    assert parse_script("[[sim error_after=5 hang_after=2]]").fault == Fault(FaultKind.HANG, 2)
    assert parse_script("[[sim reset_after=0]]").fault == Fault(FaultKind.RESET, 0)
    assert parse_script("[[sim output=3]]").fault is None


@pytest.mark.parametrize(
    ("directive", "key"),
    [
        ("outptu=3", "outptu"),
        ("output=-1", "output"),
        ("output=100001", "output"),
        ("output=many", "output"),
        ("delay_ms=120001", "delay_ms"),
        ("usage=wrong", "usage"),
        ("newline=tab", "newline"),
        ("body=ok", "body"),
        ("status=200", "status"),
        ("done=yes", "done"),
        ("tool=a/b", "tool"),
        ("split_bytes=0", "split_bytes"),
        ("hang", "hang"),
    ],
)
def test_a_directive_that_is_wrong_is_refused_by_its_key(directive, key):
    with pytest.raises(InvalidValue, match=key):
        parse_script(f"[[sim {directive}]]")


def test_input_costs_three_tokens_an_item_and_one_for_four_bytes():
    assert count_input([]) == 0
    assert count_input([""]) == 3
    assert count_input(["abcd", "abcde"]) == (3 + 1) + (3 + 2)
    assert count_input(["é"]) == 3 + 1


def test_an_answer_has_as_many_words_as_were_asked_for():
    words = compose("hello", 61)
    assert len(words) == 61
    assert split_words("".join(words)) == words
    assert compose("hello", 0) == []
    assert compose("hello", None) == compose("hello", None)
    assert len(compose("hello", None)) >= 24


def test_an_answer_is_in_the_language_of_the_prompt():
    assert compose("Halo, apa kabar?", 1) == ["Halo"]
    assert compose("What is a gateway?", 1) == ["Hello"]


# ---------------------------------------------------------------- both dialects, whole and streamed


def test_a_chat_answer_counts_its_tokens(simulator):
    answer = json.loads(post(simulator, CHAT, chat("hi [[sim output=5]]"), "req_chat"))
    assert len(split_words(answer["choices"][0]["message"]["content"])) == 5
    assert answer["choices"][0]["finish_reason"] == "stop"
    expected_input = count_input(["hi [[sim output=5]]"])
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (
        expected_input,
        5,
        expected_input + 5,
    )
    line = simulator.line_of("req_chat")
    assert (line["id"], line["dialect"], line["stream"], line["model"]) == (
        answer["id"],
        "chat",
        False,
        "nusantara-base",
    )
    assert (line["input_tokens"], line["output_tokens"], line["delivered_tokens"]) == (expected_input, 5, 5)
    assert (line["usage"], line["ending"]) == ("sent", "complete")


def test_the_official_client_reads_a_chat_stream(client):
    prompt = "hi [[sim output=4]]"
    stream = client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": prompt}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "".join(compose(prompt, 4))
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 4


def test_the_official_client_reads_a_responses_stream(client):
    prompt = "hi [[sim output=3]]"
    received = list(client.responses.create(model="m", input=prompt, stream=True))
    assert [event.type for event in received] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in received] == list(range(11))
    response = received[-1].response
    assert response.output_text == "".join(compose(prompt, 3))
    assert (response.usage.output_tokens, response.usage.total_tokens) == (3, 3 + response.usage.input_tokens)


def test_the_official_client_reads_tool_calls_of_both_dialects(client):
    prompt = "weather? [[sim tool=weather]]"
    wanted = {"city": "Jakarta", "unit": "celsius"}
    chat_tool = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
    tool = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": False}

    messages = [{"role": "user", "content": prompt}]
    choice = client.chat.completions.create(model="m", messages=messages, tools=[chat_tool]).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert json.loads(choice.message.tool_calls[0].function.arguments) == wanted

    chunks = list(
        client.chat.completions.create(model="m", messages=messages, tools=[chat_tool], stream=True)
    )
    calls = [chunk.choices[0].delta.tool_calls[0] for chunk in chunks if chunk.choices[0].delta.tool_calls]
    assert calls[0].function.name == "weather"
    assert json.loads("".join(call.function.arguments for call in calls)) == wanted

    call = client.responses.create(model="m", input=prompt, tools=[tool]).output[0]
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", wanted)

    received = list(client.responses.create(model="m", input=prompt, tools=[tool], stream=True))
    arguments = [event.delta for event in received if event.type == "response.function_call_arguments.delta"]
    assert json.loads("".join(arguments)) == wanted
    assert received[-1].response.output[0].name == "weather"


def test_the_official_client_reads_models_and_embeddings(client):
    assert [model.id for model in client.models.list()] == ["nusantara-base"]
    one, same, other = (client.embeddings.create(model="m", input=text) for text in ("a", "a", "b"))
    assert len(one.data[0].embedding) == 8
    assert one.data[0].embedding == same.data[0].embedding != other.data[0].embedding
    assert one.usage.prompt_tokens == count_input(["a"])
    whole = client.embeddings.create(model="m", input="a", encoding_format="float").data[0].embedding
    assert whole == pytest.approx(one.data[0].embedding)


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_a_chat_answer_stops_at_the_limit(simulator, limit):
    answer = json.loads(post(simulator, CHAT, chat("hi [[sim output=9]]", **{limit: 4})))
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 4


def test_a_response_stops_at_the_limit(simulator):
    answer = json.loads(post(simulator, RESPONSES, respond("hi [[sim output=9]]", max_output_tokens=4)))
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert answer["usage"]["output_tokens"] == 4
    names = [
        json.loads(data)["type"]
        for data in events(
            post(simulator, RESPONSES, respond("hi [[sim output=9]]", max_output_tokens=4, stream=True))
        )
    ]
    assert names[-1] == "response.incomplete"


def test_copies_of_a_chat_answer_are_all_counted(simulator):
    answer = json.loads(post(simulator, CHAT, chat("hi [[sim output=5]]", n=3)))
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["completion_tokens"] == 15


def test_usage_is_streamed_only_when_asked_for(simulator):
    asked = events(post(simulator, CHAT, chat_stream("hi [[sim output=2]]"), "req_asked"))
    silent = events(post(simulator, CHAT, chat("hi [[sim output=2]]", stream=True), "req_silent"))
    assert asked[-1] == silent[-1] == "[DONE]"
    assert json.loads(asked[-2])["usage"]["completion_tokens"] == 2
    assert all("usage" not in json.loads(data) for data in silent[:-1])
    assert simulator.line_of("req_asked")["usage"] == "sent"
    assert simulator.line_of("req_silent")["usage"] == "missing"


def test_running_usage_grows_with_every_chunk(simulator):
    body = chat("hi [[sim output=4 chunk_tokens=2]]", stream=True)
    body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    chunks = [json.loads(data) for data in events(post(simulator, CHAT, body))[:-1]]
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [0, 2, 4, 4, 4]


# ---------------------------------------------------------------- usage that is not the truth


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("zero", (0, 0, 0)),
        ("negative", (-10, -3, -12)),
        ("float", (9.5, 2.5, 11.5)),
        ("string", ("9", "2", "11")),
        ("huge", (2**63 + 9, 2**63 + 2, 2**63 + 11)),
        ("wrong_total", (9, 2, 18)),
        ("partial", (9, None, None)),
    ],
)
def test_usage_can_be_nonsense(simulator, kind, expected):
    prompt = f"[[sim output=2 input_tokens=9 usage={kind}]]"
    usage = json.loads(post(simulator, CHAT, chat(prompt), f"req_{kind}"))["usage"]
    assert (
        tuple(usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")) == expected
    )
    usage = json.loads(post(simulator, RESPONSES, respond(prompt)))["usage"]
    assert tuple(usage.get(name) for name in ("input_tokens", "output_tokens", "total_tokens")) == expected
    line = simulator.line_of(f"req_{kind}")
    assert (line["input_tokens"], line["output_tokens"], line["usage"]) == (9, 2, kind)


def test_usage_can_be_missing_or_null(simulator):
    assert "usage" not in json.loads(post(simulator, CHAT, chat("[[sim usage=missing]]")))
    assert json.loads(post(simulator, CHAT, chat("[[sim usage=null]]")))["usage"] is None
    streamed = events(post(simulator, CHAT, chat_stream("[[sim output=1 usage=missing]]")))
    assert all(json.loads(data)["usage"] is None for data in streamed[:-1])


def test_usage_details_are_claimed_as_scripted(simulator):
    answer = json.loads(post(simulator, CHAT, chat("[[sim cached=3 audio=2 reasoning=1]]")))
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 3, "audio_tokens": 2}
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 1


# ---------------------------------------------------------------- the shape of the bytes


@pytest.mark.parametrize(("newline", "end"), [("lf", b"\n"), ("crlf", b"\r\n"), ("cr", b"\r")])
def test_lines_end_as_scripted(simulator, newline, end):
    body = post(simulator, RESPONSES, respond(f"[[sim output=1 newline={newline}]]", stream=True))
    assert body.endswith(end + end)
    assert body.replace(end, b"").count(b"\n") == body.replace(end, b"").count(b"\r") == 0


def test_split_bodies_have_the_same_bytes(simulator):
    script = "output=3 chunk_tokens=2 comments=1"
    whole, split = (
        post(simulator, CHAT, chat_stream(f"[[sim {script} split_bytes={size}]]")) for size in (100_000, 7)
    )
    assert [event.partition("choices")[2] for event in events(whole)][:-2] == [
        event.partition("choices")[2] for event in events(split)
    ][:-2]
    assert split.count(b": the model is thinking\n") == len(events(split))


def test_a_big_line_is_one_token(simulator):
    body = post(simulator, CHAT, chat_stream("[[sim output=1 big_line=300000]]"))
    assert max(len(data) for data in events(body)) > 300_000
    assert json.loads(events(body)[-2])["usage"]["completion_tokens"] == 2


def test_the_end_mark_can_be_left_out(simulator):
    assert events(post(simulator, CHAT, chat_stream("[[sim output=1 done=missing]]")))[-1] != "[DONE]"


def test_finish_can_be_forced_to_length(simulator):
    answer = json.loads(post(simulator, CHAT, chat("[[sim output=1 finish=length]]")))
    assert answer["choices"][0]["finish_reason"] == "length"


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_a_status_is_answered_as_scripted_and_not_journaled(simulator, status):
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(simulator, CHAT, chat(f"[[sim status={status}]]"), f"req_status_{status}")
    with caught.value as answer:
        assert answer.code == status
        assert json.loads(answer.read())["error"]["message"] == f"The script asked for status {status}."
    assert not [line for line in simulator.journal() if line["request_id"] == f"req_status_{status}"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": []}, "model"),
        (CHAT, {"model": "m", "messages": []}, "messages"),
        (CHAT, {"model": "m", "messages": [{"role": "user", "content": ""}], "max_tokens": 0}, "max_tokens"),
        (RESPONSES, {"model": "m"}, "input"),
        (RESPONSES, {"model": "m", "input": "hi", "max_output_tokens": "9"}, "max_output_tokens"),
        ("/embeddings", {"model": "m", "input": [1]}, "input"),
    ],
)
def test_a_bad_request_is_refused_by_its_parameter(simulator, path, body, param):
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(simulator, path, body)
    with caught.value as answer:
        assert answer.code == 400
        assert json.loads(answer.read())["error"]["param"] == param


def test_a_stream_can_fail_in_the_middle(simulator):
    body = post(simulator, CHAT, chat_stream("[[sim output=9 chunk_tokens=2 error_after=3]]"), "req_error")
    assert [list(json.loads(data)) for data in events(body)[-2:-1]] == [["error"]]
    line = simulator.line_of("req_error")
    assert (line["ending"], line["delivered_tokens"], line["usage"]) == ("error", 3, "unsent")
    body = post(simulator, RESPONSES, respond("[[sim output=9 error_after=0]]", stream=True))
    assert json.loads(events(body)[-1])["type"] == "error"


def test_a_connection_can_be_reset_before_the_headers(simulator):
    with pytest.raises((RemoteDisconnected, ConnectionResetError)):
        post(simulator, CHAT, chat("[[sim reset_after=0]]"), "req_reset_0")
    assert not [line for line in simulator.journal() if line["request_id"] == "req_reset_0"]


@pytest.mark.parametrize("body", [chat_stream, chat])
def test_a_connection_can_be_reset_in_the_body(simulator, body):
    with pytest.raises(IncompleteRead) as caught:
        post(simulator, CHAT, body("[[sim output=9 reset_after=2]]"), f"req_reset_{body.__name__}")
    assert caught.value.partial
    line = simulator.line_of(f"req_reset_{body.__name__}")
    assert line["ending"] == "reset"
    assert line["delivered_tokens"] == (2 if body is chat_stream else 0)


def test_a_body_can_be_malformed_empty_truncated_or_gzipped(simulator):
    assert post(simulator, CHAT, chat("[[sim body=malformed]]")) == b'{"id": oops'
    assert post(simulator, CHAT, chat("[[sim body=empty]]")) == b""
    assert (
        json.loads(gzip.decompress(post(simulator, CHAT, chat("[[sim body=gzip]]"))))["object"]
        == "chat.completion"
    )
    with pytest.raises(IncompleteRead):
        post(simulator, CHAT, chat("[[sim body=truncated]]"))


def test_a_stream_can_be_malformed_empty_truncated_or_gzipped(simulator):
    assert '{"id": oops' in events(post(simulator, CHAT, chat_stream("[[sim body=malformed]]")))
    assert post(simulator, CHAT, chat_stream("[[sim body=empty]]")) == b""
    assert gzip.decompress(post(simulator, CHAT, chat_stream("[[sim body=gzip]]"))).endswith(b"[DONE]\n\n")
    assert not post(simulator, CHAT, chat_stream("[[sim body=truncated]]")).endswith(b"\n\n")


def test_the_simulator_ends_by_itself_on_sigterm(tmp_path):
    port = free_port()
    code = f"from gateway.upstream.simulator.serve import serve; serve('127.0.0.1', {port}, None)"
    process = ChildProcess.python(code, output=tmp_path / "log")
    try:
        process.wait_for_http(port)
    finally:
        assert process.stop() == 0
