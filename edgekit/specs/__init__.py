"""What a bundle says about its inputs, its outputs and its generation: one record per kind.

Every parameter of a transformation is a key here; nothing has a default. The functions that carry them out
take the record as their first argument: `f(spec, value) -> value`.
"""
