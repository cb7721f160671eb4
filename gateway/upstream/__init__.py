"""The models behind the gateway: catalogue, HTTP client, simulator."""
