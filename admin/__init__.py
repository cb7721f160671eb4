"""The faces of the product: the command line, the portal for developers, the console for operators."""
