-- Which flat price a subscription pays, and which it has paid for that is held: whoever bought at an old one owes the
-- difference to that. Null until Stripe is asked again, and where there is none.
ALTER TABLE stripe_subscription
    ADD COLUMN flat_price_id text,
    ADD COLUMN held_price_id text;
