"""The proxy of the fault tests leaves nothing open, or a test that runs after it fails for no reason of its own."""

import gc
import socket
import warnings

from tests.fakes.toxic import running_proxy

ROUNDS = 40
CONNECTIONS = 3


def test_connections_that_are_being_accepted_when_it_stops_are_closed():
    with socket.create_server(("127.0.0.1", 0)) as target, warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always", ResourceWarning)
        for _ in range(ROUNDS):
            with running_proxy(target.getsockname()) as proxy:
                clients = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(CONNECTIONS)]
            for client in clients:
                client.close()
        gc.collect()
    assert [str(warning.message) for warning in left_open] == []
