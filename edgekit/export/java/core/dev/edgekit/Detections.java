package dev.edgekit;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Things found, best first: `boxes` (n, 4) as left, top, right, bottom in pixels of the original picture; `keypoints`
 * (n, k, 2) as (x, y) there, null where the model has none.
 */
public final class Detections extends Result {
    public final Tensor boxes;
    public final List<String> labels;
    public final List<Double> scores;
    public final Tensor keypoints;

    private Detections(
            Tensor boxes, List<String> labels, List<Double> scores, Tensor keypoints, Map<String, Double> timings) {
        super(timings);
        this.boxes = boxes;
        this.labels = labels;
        this.scores = scores;
        this.keypoints = keypoints;
    }

    @Override
    void fields(Map<String, Object> into) {
        into.put("boxes", boxes);
        into.put("labels", labels);
        into.put("scores", scores);
        into.put("keypoints", keypoints);
    }

    /** One class of one query. */
    private static final class Candidate {
        final double score;
        final int label;
        final int query;

        Candidate(double score, int label, int query) {
            this.score = score;
            this.label = label;
            this.query = query;
        }
    }

    /** A candidate and its points: two corners, then the keypoints, x and y in turn. */
    private static final class Found {
        final Candidate what;
        final double[] points;

        Found(Candidate what, double[] points) {
            this.what = what;
            this.points = points;
        }
    }

    /** From logits (1, queries, classes) and boxes (1, queries, 4 + 2 k). */
    static Detections detect(
            Postprocess spec,
            Map<String, Tensor> values,
            Geometry where,
            List<String> names,
            Map<String, Double> timings) {
        Tensor boxes = one(spec.boxes, values.get(spec.boxes));
        int numbers = boxes.shape[2];
        if (numbers < 4 || numbers % 2 != 0) {
            throw new GraphRefused("'" + spec.boxes + "': expected (1, queries, 4 + 2 k), got " + numbers + " numbers");
        }
        List<double[]> centres = spec.anchors == null ? null : spec.anchors.centres();
        if (centres != null && centres.size() != boxes.shape[1]) {
            throw new GraphRefused("'" + spec.boxes + "' has " + boxes.shape[1] + " boxes, the manifest's anchors are "
                    + centres.size());
        }
        List<Found> found = new ArrayList<>();
        for (Candidate candidate : candidates(spec, one(spec.logits, values.get(spec.logits)))) {
            if (candidate.score > spec.threshold) {
                if (candidate.label >= names.size()) {
                    throw new GraphRefused("'" + spec.logits + "' has class " + candidate.label + ", " + spec.labels
                            + " " + names.size() + " labels");
                }
                double[] centre = centres == null ? null : centres.get(candidate.query);
                found.add(new Found(candidate, points(spec, boxes, candidate.query, centre)));
            }
        }
        if (spec.suppression != null) {
            found = suppressed(spec.suppression, found);
        }
        List<String> labels = new ArrayList<>();
        List<Double> scores = new ArrayList<>();
        float[] flat = new float[4 * found.size()];
        float[] keypoints = new float[(numbers - 4) * found.size()];
        for (int i = 0; i < found.size(); i++) {
            labels.add(names.get(found.get(i).what.label));
            scores.add(found.get(i).what.score);
            double[] placed = placed(spec, found.get(i).points, where);
            for (int k = 0; k < numbers; k++) {
                if (k < 4) {
                    flat[4 * i + k] = (float) placed[k];
                } else {
                    keypoints[(numbers - 4) * i + k - 4] = (float) placed[k];
                }
            }
        }
        Tensor points = numbers == 4 ? null : Tensor.of(keypoints, found.size(), (numbers - 4) / 2, 2);
        return new Detections(Tensor.of(flat, found.size(), 4), labels, scores, points, timings);
    }

    private static Tensor one(String name, Tensor tensor) {
        if (tensor.shape.length != 3 || tensor.shape[0] != 1) {
            throw new GraphRefused("'" + name + "': expected (1, queries, n)");
        }
        Scores.refuseUnlessFinite(tensor.floats(), "'" + name + "'");
        return tensor;
    }

    /** Best first; those as good keep their order. */
    private static List<Candidate> candidates(Postprocess spec, Tensor logits) {
        int queries = logits.shape[1];
        int classes = logits.shape[2];
        List<Candidate> found = new ArrayList<>();
        for (int query = 0; query < queries; query++) {
            double[] row = new double[classes];
            for (int i = 0; i < classes; i++) {
                row[i] = logits.at(query * classes + i);
            }
            row = Scores.activate(spec.noObject ? "softmax" : "sigmoid", row);
            int best = 0;
            for (int i = 0; i < classes; i++) {
                if (!spec.noObject) {
                    found.add(new Candidate(row[i], i, query));
                } else if (i < classes - 1 && row[i] > row[best]) {
                    best = i;
                }
            }
            if (spec.noObject) {
                found.add(new Candidate(row[best], best, query));
            }
        }
        found.sort((a, b) -> Double.compare(b.score, a.score));
        int kept = spec.topK == 0 ? queries : spec.topK;
        return spec.noObject ? found : found.subList(0, Math.min(kept, found.size()));
    }

    /** Two corners and the keypoints of one box, in the spec's unit. */
    private static double[] points(Postprocess spec, Tensor boxes, int query, double[] centre) {
        double[] points = new double[boxes.shape[2]];
        for (int i = 0; i < points.length; i++) {
            points[i] = boxes.at(points.length * query + i);
            if (centre != null && (i < 2 || i > 3)) {
                points[i] += centre[i % 2];
            }
        }
        if (spec.centred) {
            for (int i = 0; i < 2; i++) {
                double middle = points[i];
                double half = points[i + 2] / 2;
                points[i] = middle - half;
                points[i + 2] = middle + half;
            }
        }
        return points;
    }

    /** One of each group of one label that overlaps the best of it, best first. */
    private static List<Found> suppressed(Postprocess.Suppression spec, List<Found> found) {
        List<Found> left = new ArrayList<>();
        List<Found> waiting = found;
        while (!waiting.isEmpty()) {
            Found best = waiting.get(0);
            double[] sum = new double[best.points.length];
            double total = 0;
            List<Found> others = new ArrayList<>();
            for (Found one : waiting) {
                boolean near = one.what.label == best.what.label && overlap(best.points, one.points) > spec.overlap;
                if (one != best && !near) {
                    others.add(one);
                } else if (spec.weighted) {
                    total += one.what.score;
                    for (int i = 0; i < sum.length; i++) {
                        sum[i] += one.what.score * one.points[i];
                    }
                }
            }
            for (int i = 0; spec.weighted && i < sum.length; i++) {
                sum[i] /= total;
            }
            left.add(new Found(best.what, spec.weighted ? sum : best.points));
            waiting = others;
        }
        return left;
    }

    /** Intersection over union; 0 where nothing has an area. */
    private static double overlap(double[] a, double[] b) {
        double width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
        double height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
        double shared = Math.max(width, 0) * Math.max(height, 0);
        double union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared;
        return union > 0 ? shared / union : 0;
    }

    /** Points in pixels of the original picture, the first two as left, top, right, bottom. */
    private static double[] placed(Postprocess spec, double[] points, Geometry where) {
        double[] placed = new double[points.length];
        for (int i = 0; i < points.length; i += 2) {
            double x = points[i];
            double y = points[i + 1];
            if (spec.fractions) {
                placed[i] = x * where.width;
                placed[i + 1] = y * where.height;
                continue;
            }
            x = x * where.scaleX + where.offsetX;
            y = y * where.scaleY + where.offsetY;
            placed[i] = where.turned ? y : x;
            placed[i + 1] = where.turned ? where.height - x : y;
        }
        if (where.turned && !spec.fractions) {
            double lower = placed[1];
            placed[1] = placed[3];
            placed[3] = lower;
        }
        return placed;
    }
}
