"""Inference runtimes behind one small protocol (`graph.Graph`); `loading.load_graph` picks one.

What a runtime prints, raises or calls its tensors stays in its module.
"""
