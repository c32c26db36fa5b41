package dev.edgekit;

import java.util.Map;

/** `scores` maps label to score, best first; `label` and `score` are its first entry. */
public final class Classification extends Result {
    public final String label;
    public final double score;
    public final Map<String, Double> scores;

    Classification(Map<String, Double> scores, Map<String, Double> timings) {
        super(timings);
        Map.Entry<String, Double> best = scores.entrySet().iterator().next();
        this.label = best.getKey();
        this.score = best.getValue();
        this.scores = scores;
    }

    @Override
    void fields(Map<String, Object> into) {
        into.put("label", label);
        into.put("score", score);
        into.put("scores", scores);
    }
}
