"""An example request and answer for every operation of the API; a test compares their fields with real ones."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

MODEL = "nusantara-base"
RESPONSE_ID = "resp_01a212158eba7a7cba3ecb6573b47bde95ab9c0a1219e129"
MESSAGE_ID = "msg_4853ac82f98182ab4222919fac27e4e6124bcf89b2a028c1"
ACCOUNT_ID = "01a21213-8299-717c-b2a0-a6d4c47fa124"
RESETS_AT = "2026-12-01T00:00:00Z"

MODEL_OBJECT: dict[str, Any] = {
    "id": MODEL,
    "object": "model",
    "created": 0,
    "owned_by": "nusagate",
    "context_window": 8192,
    "max_output_tokens": 4096,
}
RESPONSE_OBJECT: dict[str, Any] = {
    "id": RESPONSE_ID,
    "object": "response",
    "created_at": 1795599732,
    "completed_at": 1795599732,
    "status": "completed",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": "Answer in one sentence.",
    "max_output_tokens": 256,
    "max_tool_calls": None,
    "model": MODEL,
    "output": [
        {
            "type": "message",
            "id": MESSAGE_ID,
            "status": "completed",
            "role": "assistant",
            "content": [
                {
                    "type": "output_text",
                    "text": "Kabar baik, terima kasih!",
                    "annotations": [],
                    "logprobs": [],
                }
            ],
        }
    ],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": 0.7,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "top_logprobs": 0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "truncation": "disabled",
    "service_tier": "default",
    "safety_identifier": None,
    "prompt_cache_key": None,
    "usage": {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0, "text_tokens": 12, "audio_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0, "text_tokens": 7, "audio_tokens": 0},
        "total_tokens": 19,
    },
    "user": None,
    "metadata": {},
}
CHAT_OBJECT: dict[str, Any] = {
    "id": "chatcmpl-39e486670c0f5370981bb3f15c158ab124f805bb4d80d1f1",
    "object": "chat.completion",
    "created": 1795599733,
    "model": MODEL,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Kabar baik, terima kasih!", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 6, "completion_tokens": 7, "total_tokens": 13},
}
USED: dict[str, Any] = {"used": 33, "held": 0, "limit": 10000, "remaining": 9967, "reset_at": RESETS_AT}
KEY_OBJECT: dict[str, Any] = {
    "object": "api_key",
    "id": "01a21213-8327-7f59-9e9b-bfcce02eb501",
    "name": "blog server",
    "key": "nsk_live_3agV…hyKM",
    "account_id": ACCOUNT_ID,
    "tier": "free",
    "permissions": ["chat.completions", "embeddings", "responses"],
    "models": None,
    "usage_info": {"daily": USED | {"limit": None, "remaining": None}, "monthly": USED, "key_monthly": USED},
    "created": "2026-11-25T09:39:58Z",
    "expires": None,
}
USAGE_OBJECT: dict[str, Any] = {
    "object": "usage",
    "account_id": ACCOUNT_ID,
    "start": "2026-11-01T00:00:00Z",
    "end": "2026-11-25T09:42:12Z",
    "group_by": "model",
    "data": [
        {
            "group": MODEL,
            "requests": 1,
            "input_tokens": 6,
            "output_tokens": 27,
            "total_tokens": 33,
            "currency": "idr",
            "amount": "0.0423",
        }
    ],
    "total_tokens": 33,
    "requests": 1,
    "refused": [],
    "month": {
        "period": "2026-11",
        "limit": 10000,
        "used": 33,
        "held": 0,
        "remaining": 9967,
        "resets_at": RESETS_AT,
        "engine": "postgres",
    },
    "forecast": {
        "tokens_at_reset": 40,
        "resets_at": RESETS_AT,
        "method": "used so far, continued at the month's average pace",
    },
}

REQUESTS: Mapping[tuple[str, str], dict[str, Any]] = MappingProxyType(
    {
        ("post", "/v1/responses"): {
            "model": MODEL,
            "instructions": "Answer in one sentence.",
            "input": "Apa kabar?",
            "max_output_tokens": 256,
        },
        ("post", "/v1/chat/completions"): {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Apa kabar?"}],
            "max_completion_tokens": 256,
        },
        ("post", "/v1/embeddings"): {"model": MODEL, "input": "Apa kabar?"},
    }
)
ANSWERS: Mapping[tuple[str, str], dict[str, Any]] = MappingProxyType(
    {
        ("post", "/v1/responses"): RESPONSE_OBJECT,
        ("post", "/v1/chat/completions"): CHAT_OBJECT,
        ("post", "/v1/embeddings"): {
            "object": "list",
            "model": MODEL,
            "data": [{"object": "embedding", "index": 0, "embedding": [0.0745, -0.0118, 0.3961]}],
            "usage": {"prompt_tokens": 6, "total_tokens": 6},
        },
        ("get", "/v1/responses/{response_id}"): RESPONSE_OBJECT,
        ("delete", "/v1/responses/{response_id}"): {"id": RESPONSE_ID, "object": "response", "deleted": True},
        ("get", "/v1/responses/{response_id}/input_items"): {
            "object": "list",
            "data": [
                {
                    "type": "message",
                    "id": MESSAGE_ID,
                    "status": "completed",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "Apa kabar?"}],
                }
            ],
            "first_id": MESSAGE_ID,
            "last_id": MESSAGE_ID,
            "has_more": False,
        },
        ("get", "/v1/models"): {"object": "list", "data": [MODEL_OBJECT]},
        ("get", "/v1/models/{model_id}"): MODEL_OBJECT,
        ("get", "/v1/auth/key"): KEY_OBJECT,
        ("get", "/v1/usage"): USAGE_OBJECT,
    }
)
"""There is none for ``cancel``: an answer is stored when it has ended, so there is never one to cancel."""
