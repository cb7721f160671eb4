-- reserve
-- Decides a batch of requests under their accounts' locks and records those that are admitted.
SELECT * FROM reserve_v1($1::jsonb, $2::timestamptz);

-- record
-- Records a batch of requests that Redis admitted, unless Redis did not know everything.
SELECT * FROM record_v1($1::jsonb, $2::bigint[], $3::timestamptz[], $4::bigint[]);

-- fence
-- Moves the fences of accounts on and reads all that their limits follow from.
SELECT * FROM fence_v1($1::uuid[]);

-- counters
-- What an account, its keys and its day have used and hold in the periods of a moment.
SELECT subject_id, period, used_tokens, held_tokens FROM quota_counter
WHERE account_id = $1 AND subject_id = ANY($2::uuid[]) AND period = ANY($3::text[]);

-- database_time
-- The clock that decides which month a request belongs to.
SELECT clock_timestamp();
