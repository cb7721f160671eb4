"""A request of the playground as a program would send it: the same body, written for three languages."""

import json
import shlex
from typing import Any

from admin.portal.snippets import Snippet

ENDPOINT = "/v1/responses"
KEY_VARIABLE = "NUSAGATE_API_KEY"
INDENT = 2


def code_of(api_url: str, body: dict[str, Any]) -> list[Snippet]:
    """Write the request for the command line, for Python and for JavaScript; the key comes from the environment."""
    return [
        Snippet("curl", "curl", _curl(api_url, body)),
        Snippet("python", "Python", _python(api_url, body)),
        Snippet("javascript", "JavaScript", _javascript(api_url, body)),
    ]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=INDENT)


def _curl(api_url: str, body: dict[str, Any]) -> str:
    unbuffered = "--no-buffer " if body["stream"] else ""
    return f"""curl {unbuffered}{api_url}{ENDPOINT} \\
  -H "Authorization: Bearer ${KEY_VARIABLE}" \\
  -H "Content-Type: application/json" \\
  -d {shlex.quote(_json(body))}"""


def _python(api_url: str, body: dict[str, Any]) -> str:
    arguments = "".join(f"    {name}={_literal(value)},\n" for name, value in body.items())
    call = f"client.responses.create(\n{arguments})"
    if body["stream"]:
        rest = f"""with {call} as stream:
    for event in stream:
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)"""
    else:
        rest = f"response = {call}\nprint(response.output_text)"
    return f"""# pip install openai
import os
from openai import OpenAI

client = OpenAI(
    base_url="{api_url}/v1",
    api_key=os.environ["{KEY_VARIABLE}"],
)
{rest}"""


def _literal(value: object) -> str:
    """Write a value of a body in Python; messages stand on lines of their own."""
    if isinstance(value, list):
        items = "".join(f"        {item!r},\n" for item in value)
        return f"[\n{items}    ]"
    return repr(value)


def _javascript(api_url: str, body: dict[str, Any]) -> str:
    call = f"await client.responses.create({_json(body)})"
    if body["stream"]:
        rest = f"""const stream = {call};
for await (const event of stream) {{
  if (event.type === "response.output_text.delta") process.stdout.write(event.delta);
}}"""
    else:
        rest = f"const response = {call};\nconsole.log(response.output_text);"
    return f"""// npm install openai
import OpenAI from "openai";

const client = new OpenAI({{
  baseURL: "{api_url}/v1",
  apiKey: process.env.{KEY_VARIABLE},
}});
{rest}"""
