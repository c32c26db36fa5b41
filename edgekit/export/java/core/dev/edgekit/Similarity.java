package dev.edgekit;

import java.util.Map;

/** Candidate texts by score, best first, and the embeddings they came from; null for the side that was not given. */
public final class Similarity extends Result {
    public final String label;
    public final double score;
    public final Map<String, Double> scores;
    public final float[] imageEmbedding;
    public final float[] audioEmbedding;
    public final Tensor textEmbedding;

    Similarity(
            Map<String, Double> scores, float[] image, float[] audio, Tensor text, Map<String, Double> timings) {
        super(timings);
        Map.Entry<String, Double> best = scores.entrySet().iterator().next();
        this.label = best.getKey();
        this.score = best.getValue();
        this.scores = scores;
        this.imageEmbedding = image;
        this.audioEmbedding = audio;
        this.textEmbedding = text;
    }

    @Override
    void fields(Map<String, Object> into) {
        into.put("label", label);
        into.put("score", score);
        into.put("scores", scores);
        into.put("image_embedding", imageEmbedding);
        into.put("audio_embedding", audioEmbedding);
        into.put("text_embedding", textEmbedding);
    }
}
