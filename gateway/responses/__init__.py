"""The Responses API: the object, its state, and the translation to and from chat."""
