package dev.edgekit;

import java.util.Map;

/** One vector. */
public final class Embedding extends Result {
    public final float[] embedding;

    Embedding(float[] embedding, Map<String, Double> timings) {
        super(timings);
        this.embedding = embedding;
    }

    @Override
    void fields(Map<String, Object> into) {
        into.put("embedding", embedding);
    }
}
