-- find_book
-- A published price book by its id, for pricing a settlement.
SELECT book_id, currency, version, effective_from, effective_to
FROM price_book WHERE book_id = $1 AND published_at IS NOT NULL;

-- books_at
-- The published price books that hold at a moment, one a currency.
SELECT book_id, currency, version, effective_from, effective_to
FROM price_book
WHERE published_at IS NOT NULL AND effective_from <= $1 AND (effective_to IS NULL OR $1 < effective_to)
  AND ($2::text IS NULL OR currency = $2)
ORDER BY currency;

-- rates_of
-- All rates of some books.
SELECT book_id, model, token_class, micro_per_mtok FROM price_rate WHERE book_id = ANY ($1::text[]);

-- lock_currency
-- Keep two publishers of one currency apart until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('price_book'), hashtext($1));

-- written_books
-- The books that have this id or this version, to tell a repetition from a contradiction.
SELECT book_id, content_sha256, effective_to, published_at IS NOT NULL AS published
FROM price_book WHERE book_id = $1 OR (currency = $2 AND version = $3);

-- last_book
-- The published book that has no end yet.
SELECT book_id, effective_from FROM price_book
WHERE currency = $1 AND published_at IS NOT NULL AND effective_to IS NULL;

-- end_book
-- End the last book where the next one begins.
UPDATE price_book SET effective_to = $2 WHERE book_id = $1;

-- insert_book
-- Write a book, not yet published, so that its rates may still be written.
INSERT INTO price_book (book_id, currency, version, effective_from, effective_to, content_sha256)
VALUES ($1, $2, $3, $4, $5, $6);

-- insert_rates
-- Write the rates of a book that is not yet published.
INSERT INTO price_rate (book_id, model, token_class, micro_per_mtok)
SELECT $1, model, token_class, rate FROM unnest($2::text[], $3::text[], $4::bigint[]) AS given(model, token_class, rate);

-- publish_book
-- From here on the book and its rates are history.
UPDATE price_book SET published_at = $2, published_by = $3 WHERE book_id = $1;
