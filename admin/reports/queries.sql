-- latest_calls
-- The latest settled requests of an account since a moment, of one key where it is named.
SELECT request_id, key_id, model, occurred_at, input_text_tokens + input_cached_tokens + input_audio_tokens AS input_tokens,
       output_text_tokens + output_reasoning_tokens + output_audio_tokens AS output_tokens, amount_pico, currency,
       duration_ms, usage_source, end_reason
FROM ledger_entry
WHERE account_id = $1 AND occurred_at >= $2 AND kind = 'usage' AND ($3::uuid IS NULL OR key_id = $3)
ORDER BY occurred_at DESC LIMIT $4;
