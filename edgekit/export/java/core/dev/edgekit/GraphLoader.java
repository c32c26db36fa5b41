package dev.edgekit;

/** Loads the graphs of a bundle; the LiteRT one is dev.edgekit.litert.LiteRtLoader. */
public interface GraphLoader {
    /** The graph of this file of the bundle; throws GraphRefused. */
    Graph load(String file);
}
