-- ------------------------------------------------------------------ which alerts an account's owner wants

-- At which percents of a limit there is mail; an account without a row gets it at each.
CREATE TABLE alert_choice (
    account_id uuid PRIMARY KEY REFERENCES account,
    percents   integer[] NOT NULL CHECK (percents <@ ARRAY[50, 80, 100]),
    changed_at timestamptz NOT NULL
);

-- Alerts are sent for the monthly tokens of a plan, too.
ALTER TABLE spend_alert DROP CONSTRAINT spend_alert_subject_check;
ALTER TABLE spend_alert ADD CONSTRAINT spend_alert_subject_check CHECK (subject IN ('tokens', 'money', 'plan'));
