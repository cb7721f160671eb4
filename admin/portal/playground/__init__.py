"""The playground: a conversation with a model in the browser, through the gateway, metered like any program's."""
