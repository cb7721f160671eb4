"""The calls that are made to the real model, and how each is made with OpenAI's own client."""

import time
from collections.abc import Mapping

import msgspec
from openai import OpenAI

from tests.system.model_server import MODEL_ID

PARAGRAPH_ID = (
    "Indonesia terdiri atas lebih dari tujuh belas ribu pulau. Di banyak pulau kecil, listrik dulu hanya menyala "
    "beberapa jam setiap malam, karena solar untuk generator harus diangkut dengan kapal dan harganya mahal. "
    "Sekarang semakin banyak desa memasang panel surya di atap sekolah dan puskesmas. Baterai menyimpan listrik "
    "siang hari, sehingga anak-anak dapat belajar pada malam hari dan vaksin tetap dingin di lemari pendingin. "
    "Warga desa belajar merawat panel itu sendiri, dan biaya perawatannya dibayar bersama setiap bulan."
)
PARAGRAPH_EN = (
    "Indonesia is made of more than seventeen thousand islands. On many of the small ones there used to be "
    "electricity for only a few hours each night, because the diesel for the generators had to come by ship and was "
    "expensive. Today more and more villages put solar panels on the roofs of their schools and health centres. "
    "Batteries keep the power of the day, so that children can study in the evening and vaccines stay cold in the "
    "refrigerator. The villagers learn to look after the panels themselves, and they share the cost of the upkeep "
    "every month. Fishermen sell their catch at a better price, because there is ice at last. Small shops stay open "
    "after dark, and the ferry office can send its timetable to the next island before the boat has left."
)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call: what is asked, and how; ``continues`` is the call whose answer it goes on from."""

    name: str
    language: str
    endpoint: str
    stream: bool
    prompt: str
    instructions: str | None = None
    max_tokens: int = 64
    continues: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the client got: the text, the usage as (input, output) tokens if it was told, and how long it took."""

    text: str
    usage: tuple[int, int] | None
    request_id: str
    response_id: str | None = None
    took_s: float = 0


CALLS = (
    Call(
        name="R1",
        language="id",
        endpoint="responses",
        stream=False,
        prompt="Apa ibu kota Indonesia? Jawab dengan satu kalimat.",
    ),
    Call(
        name="R2",
        language="en",
        endpoint="responses",
        stream=False,
        prompt="Name three fruits that grow in the tropics.",
        instructions="You are a friendly teacher. Answer in one short sentence.",
    ),
    Call(
        name="R3",
        language="id",
        endpoint="responses",
        stream=True,
        prompt=f"Ringkas teks ini dalam satu kalimat:\n\n{PARAGRAPH_ID}",
        instructions="Kamu adalah asisten yang menjawab dalam bahasa Indonesia.",
    ),
    Call(
        name="R4",
        language="en",
        endpoint="responses",
        stream=True,
        prompt="Why is the sky blue? Explain it to a child.",
        max_tokens=96,
    ),
    Call(
        name="R5",
        language="en",
        endpoint="responses",
        stream=True,
        prompt=f"Summarise this text in one sentence:\n\n{PARAGRAPH_EN}",
    ),
    Call(
        name="C1",
        language="id",
        endpoint="chat",
        stream=False,
        prompt="Sebutkan tiga hewan yang hidup di laut.",
    ),
    Call(
        name="C2",
        language="en",
        endpoint="chat",
        stream=False,
        prompt="What is two plus two?",
        instructions="Answer briefly.",
    ),
    Call(
        name="C3",
        language="id",
        endpoint="chat",
        stream=True,
        prompt="Tuliskan satu pantun pendek tentang hujan.",
        instructions="Kamu adalah penyair.",
        max_tokens=96,
    ),
    Call(
        name="C4",
        language="en",
        endpoint="chat",
        stream=True,
        prompt=f"Give this text a title:\n\n{PARAGRAPH_EN}",
        instructions="You are an editor.",
    ),
    Call(
        name="T1",
        language="en",
        endpoint="responses",
        stream=False,
        prompt="My name is Sari and I live in Ambon. Please remember that.",
    ),
    Call(
        name="T2",
        language="en",
        endpoint="responses",
        stream=True,
        prompt="What is my name?",
        continues="T1",
    ),
    Call(
        name="T3",
        language="id",
        endpoint="responses",
        stream=False,
        prompt="Di kota mana saya tinggal?",
        continues="T2",
    ),
)


def messages_of(call: Call, answers: Mapping[str, Answer]) -> list[dict[str, str]]:
    """Write the whole prompt of a call as chat messages, earlier turns included."""
    return [
        *([{"role": "system", "content": call.instructions}] if call.instructions else []),
        *_turns(call, answers),
        {"role": "user", "content": call.prompt},
    ]


def _turns(call: Call, answers: Mapping[str, Answer]) -> list[dict[str, str]]:
    if call.continues is None:
        return []
    earlier = next(known for known in CALLS if known.name == call.continues)
    return [
        *_turns(earlier, answers),
        {"role": "user", "content": earlier.prompt},
        {"role": "assistant", "content": answers[earlier.name].text},
    ]


def make_call(client: OpenAI, call: Call, answers: Mapping[str, Answer]) -> Answer:
    """Make a call the way that its endpoint and mode want it."""
    started_s = time.monotonic()
    if call.endpoint == "responses":
        previous = answers[call.continues].response_id if call.continues else None
        answer = _stream_response(client, call, previous) if call.stream else _respond(client, call, previous)
    else:
        answer = _stream_chat(client, call) if call.stream else _chat(client, call)
    return msgspec.structs.replace(answer, took_s=time.monotonic() - started_s)


def _respond(client: OpenAI, call: Call, previous: str | None) -> Answer:
    response = client.responses.create(**_response_fields(call, previous))
    return Answer(
        text=response.output_text,
        usage=(response.usage.input_tokens, response.usage.output_tokens),
        request_id=response._request_id,
        response_id=response.id,
    )


def _stream_response(client: OpenAI, call: Call, previous: str | None) -> Answer:
    opened = client.responses.with_raw_response.create(**_response_fields(call, previous), stream=True)
    written = ""
    for event in opened.parse():
        if event.type == "response.output_text.delta":
            written += event.delta
    response = event.response
    assert event.type in {"response.completed", "response.incomplete"}, event
    assert response.output_text == written, "the pieces of the stream are not its text"
    return Answer(
        text=written,
        usage=(response.usage.input_tokens, response.usage.output_tokens),
        request_id=opened.headers["x-request-id"],
        response_id=response.id,
    )


def _response_fields(call: Call, previous: str | None) -> dict:
    return {
        "model": MODEL_ID,
        "input": call.prompt,
        "instructions": call.instructions,
        "max_output_tokens": call.max_tokens,
        "temperature": 0,
        "previous_response_id": previous,
    }


def _chat(client: OpenAI, call: Call) -> Answer:
    completion = client.chat.completions.create(**_chat_fields(call))
    return Answer(
        text=completion.choices[0].message.content,
        usage=(completion.usage.prompt_tokens, completion.usage.completion_tokens),
        request_id=completion._request_id,
    )


def _stream_chat(client: OpenAI, call: Call) -> Answer:
    opened = client.chat.completions.with_raw_response.create(
        **_chat_fields(call), stream=True, stream_options={"include_usage": True}
    )
    written, usage = "", None
    for chunk in opened.parse():
        written += "".join(choice.delta.content or "" for choice in chunk.choices)
        if chunk.usage is not None:
            usage = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
    return Answer(text=written, usage=usage, request_id=opened.headers["x-request-id"])


def _chat_fields(call: Call) -> dict:
    return {
        "model": MODEL_ID,
        "messages": messages_of(call, {}),
        "max_tokens": call.max_tokens,
        "temperature": 0,
    }
