"""The outside: routes, authentication, wire bodies, headers, error shapes."""
