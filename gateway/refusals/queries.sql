-- add
-- Counts refusals, in one order, so that two gateways that count for one account cannot deadlock.
INSERT INTO refusal_hourly AS r (account_id, hour, key_id, reason, requests)
SELECT account_id, hour, key_id, reason, requests
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::bigint[]) AS n(account_id, key_id, hour, reason, requests)
ORDER BY 1, 2, 3, 4
ON CONFLICT (account_id, hour, key_id, reason) DO UPDATE SET requests = r.requests + EXCLUDED.requests;

-- by_reason
-- Refused requests of an account in a range of time, by reason, the most frequent first.
SELECT reason, sum(requests)::bigint AS requests
FROM refusal_hourly WHERE account_id = $1 AND hour >= $2 AND hour < $3
GROUP BY 1 ORDER BY 2 DESC, 1;

-- delete_old
-- Clears counts that no view reaches any more, a page at a time.
DELETE FROM refusal_hourly WHERE (account_id, hour, key_id, reason) IN (
    SELECT account_id, hour, key_id, reason FROM refusal_hourly
    WHERE hour < now() - make_interval(days => $1) LIMIT $2);
