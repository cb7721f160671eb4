"""A first request, ready to paste, with the real address and key in it."""

import msgspec

QUESTION = "Apa kabar?"


class Snippet(msgspec.Struct, frozen=True):
    """One way to make the request: the name of its tab, and the text."""

    name: str
    label: str
    text: str


def snippets(api_url: str, key: str, model: str) -> list[Snippet]:
    """Write a first request for the command line, for Python and for JavaScript."""
    return [
        Snippet("curl", "curl", _curl(api_url, key, model)),
        Snippet("python", "Python", _python(api_url, key, model)),
        Snippet("javascript", "JavaScript", _javascript(api_url, key, model)),
    ]


def _curl(api_url: str, key: str, model: str) -> str:
    return f"""curl {api_url}/v1/responses \\
  -H "Authorization: Bearer {key}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "input": "{QUESTION}"}}'"""


def _python(api_url: str, key: str, model: str) -> str:
    return f"""# pip install openai
from openai import OpenAI

client = OpenAI(
    base_url="{api_url}/v1",
    api_key="{key}",
)
response = client.responses.create(
    model="{model}",
    input="{QUESTION}",
)
print(response.output_text)"""


def _javascript(api_url: str, key: str, model: str) -> str:
    return f"""// npm install openai
import OpenAI from "openai";

const client = new OpenAI({{
  baseURL: "{api_url}/v1",
  apiKey: "{key}",
}});
const response = await client.responses.create({{
  model: "{model}",
  input: "{QUESTION}",
}});
console.log(response.output_text);"""
