-- ending
-- How a request of an account ended and what it cost; nothing of an entry while it is open or where it was released.
SELECT i.state, i.end_reason, e.model, e.currency, e.amount_pico, e.duration_ms, e.usage_source,
       e.input_text_tokens + e.input_cached_tokens + e.input_audio_tokens AS input_tokens,
       e.output_text_tokens + e.output_reasoning_tokens + e.output_audio_tokens AS output_tokens
FROM request_intent i LEFT JOIN ledger_entry e
  ON e.account_id = i.account_id AND e.occurred_at = i.admitted_at AND e.request_id = i.request_id AND e.kind = 'usage'
WHERE i.request_id = $1 AND i.account_id = $2;
