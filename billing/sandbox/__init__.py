"""A small, stateful stand-in for Stripe, for laptops, tests and anyone without a Stripe account.

It speaks Stripe's HTTP API well enough that the official ``stripe`` SDK cannot tell the difference on the
endpoints that billing needs, and it misbehaves on demand (see ``faults``). Nothing in the product imports
it to reach Stripe: it is spoken to over HTTP only, by pointing the SDK's ``base_addresses`` at it.

Start reading at ``app`` (one request), then ``world`` (what is remembered) and ``timeline`` (what happens
when time passes). Each noun of Stripe's API is a module with its ``ROUTES`` at the end.
"""
