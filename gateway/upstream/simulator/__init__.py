"""A model that only pretends: an OpenAI-compatible upstream whose behaviour the prompt itself can script.

It serves ``nusagate dev``, and in the tests it is the judge: what it notes in its journal before the last
byte of an answer is the truth that the ledger is compared with. Nothing here is on the gateway's path.
"""
