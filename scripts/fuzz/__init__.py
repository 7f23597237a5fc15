"""Does the API keep its word under requests that nobody thought of?"""
