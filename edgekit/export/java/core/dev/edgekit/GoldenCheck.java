package dev.edgekit;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Runs the golden samples of a bundle and compares tensors and results with what they must be. Pictures and sounds were
 * decoded when the module was exported: `decoded` has decoded.json, what it names, and the expected tensors.
 */
public final class GoldenCheck {
    private final Predictor predictor;
    private final BundleFiles decoded;
    private final Map<?, ?> index;
    private final List<String> lines = new ArrayList<>();
    private boolean passed = true;

    public GoldenCheck(Predictor predictor, BundleFiles decoded) {
        this.predictor = predictor;
        this.decoded = decoded;
        this.index = (Map<?, ?>) Json.parse(decoded.read("decoded.json"));
    }

    /** Whether everything that was compared is within its tolerance. */
    public boolean passed() {
        return passed;
    }

    /** One line per comparison; a sample's timings are among them. */
    public List<String> run() {
        for (Manifest.GoldenSample sample : predictor.manifest.golden) {
            Map<String, Tensor> seen = new LinkedHashMap<>();
            Result result = null;
            for (Object entry : sample.inputs) {
                seen.clear();
                predictor.forgetTexts();
                result = predictor.trace(inputs((Map<?, ?>) entry), seen);
            }
            for (Manifest.ExpectedTensor expected : sample.tensors) {
                compare(sample.name, expected, seen.get(expected.value));
            }
            if (sample.result != null && result != null) {
                compareResult(sample, result);
                lines.add(sample.name + ": " + result.timings + " ms");
            }
        }
        return lines;
    }

    private void say(String what, boolean good, String detail) {
        passed &= good;
        lines.add((good ? "ok   " : "FAIL ") + what + ": " + detail);
    }

    private Map<String, Object> inputs(Map<?, ?> entry) {
        Map<String, Object> given = new LinkedHashMap<>();
        for (Map.Entry<?, ?> input : entry.entrySet()) {
            Map<?, ?> item = (Map<?, ?>) input.getValue();
            Object value = item.containsKey("texts") ? item.get("texts") : item.get("text");
            given.put((String) input.getKey(), value != null ? value : file((String) item.get("file")));
        }
        return given;
    }

    private Object file(String name) {
        Map<?, ?> fact = (Map<?, ?>) index.get(name);
        if (fact == null) {
            throw new BundleError(name + ": not among the decoded files");
        }
        ByteBuffer raw = ByteBuffer.wrap(decoded.read((String) fact.get("file"))).order(ByteOrder.LITTLE_ENDIAN);
        int[] shape = new int[((List<?>) fact.get("shape")).size()];
        for (int i = 0; i < shape.length; i++) {
            shape[i] = ((Long) ((List<?>) fact.get("shape")).get(i)).intValue();
        }
        Tensor tensor = tensor((String) fact.get("datatype"), shape, raw);
        if (fact.get("kind").equals("image")) {
            return Pixels.of((byte[]) tensor.data, shape[0], shape[1], shape[2]);
        }
        if (fact.get("kind").equals("audio")) {
            int rate = ((Long) fact.get("rate_hz")).intValue();
            return tensor.data instanceof short[]
                    ? Sound.of((short[]) tensor.data, shape[1], rate)
                    : Sound.of((float[]) tensor.data, shape[1], rate);
        }
        return tensor;
    }

    private static Tensor tensor(String datatype, int[] shape, ByteBuffer raw) {
        Object values = Tensor.array(datatype, Tensor.count(shape));
        for (int i = 0; i < Tensor.count(shape); i++) {
            if (values instanceof float[]) {
                ((float[]) values)[i] = raw.getFloat();
            } else if (values instanceof long[]) {
                ((long[]) values)[i] = raw.getLong();
            } else if (values instanceof int[]) {
                ((int[]) values)[i] = raw.getInt();
            } else if (values instanceof short[]) {
                ((short[]) values)[i] = raw.getShort();
            } else {
                ((byte[]) values)[i] = raw.get();
            }
        }
        return new Tensor(datatype, shape, values);
    }

    private void compare(String sample, Manifest.ExpectedTensor expected, Tensor got) {
        String what = sample + "/" + expected.value;
        if (got == null || !got.datatype.equals(expected.datatype) || got.size() != Tensor.count(expected.shape)) {
            say(what, false, got == null ? "not computed" : "another datatype or size");
            return;
        }
        ByteBuffer raw = ByteBuffer.wrap(decoded.read(expected.file)).order(ByteOrder.LITTLE_ENDIAN);
        Tensor want = tensor(expected.datatype, new int[] {expected.count}, raw);
        double difference = 0.0;
        double largest = 0.0;
        for (int i = 0; i < expected.count; i++) {
            int at = expected.indicesSeed == null ? i : picked(expected.indicesSeed, i, got.size());
            double gap = Math.abs(got.at(at) - want.at(i));
            difference = gap <= difference ? difference : gap; // NaN stays
            largest = Math.max(largest, Math.abs(want.at(i)));
        }
        if (expected.stage.equals("graph")) {
            difference /= Math.max(largest, 1e-12);
        }
        say(what, difference <= expected.tolerance, difference + " (tolerance " + expected.tolerance + ")");
    }

    /** SplitMix64, as edgekit/golden.py picks. */
    private static int picked(long seed, int index, int size) {
        long x = (index + 1) * 0x9E3779B97F4A7C15L + seed;
        x = (x ^ (x >>> 30)) * 0xBF58476D1CE4E5B9L;
        x = (x ^ (x >>> 27)) * 0x94D049BB133111EBL;
        return (int) Long.remainderUnsigned(x ^ (x >>> 31), size);
    }

    private void compareResult(Manifest.GoldenSample sample, Result result) {
        Map<?, ?> want = (Map<?, ?>) sample.result;
        Map<?, ?> got = (Map<?, ?>) Json.parse(result.toJson().getBytes(StandardCharsets.UTF_8));
        List<double[]> pairs = new ArrayList<>();
        List<String> problems = new ArrayList<>();
        for (Map.Entry<?, ?> entry : want.entrySet()) {
            flatten(entry.getValue(), got.get(entry.getKey()), "." + entry.getKey(), pairs, problems);
        }
        double scale = 0.0;
        double difference = 0.0;
        for (double[] pair : pairs) {
            scale = Math.max(scale, Math.abs(pair[0]));
            double gap = Math.abs(pair[0] - pair[1]);
            difference = gap <= difference ? difference : gap;
        }
        difference /= scale == 0.0 ? 1.0 : scale;
        if (margin(want) <= sample.tolerance) {
            problems.removeIf(p -> p.startsWith(".label:"));
        }
        say(sample.name + "/result", problems.isEmpty() && difference <= sample.tolerance, difference + " " + problems);
    }

    private static double margin(Map<?, ?> want) {
        if (!(want.get("scores") instanceof Map) || ((Map<?, ?>) want.get("scores")).size() < 2) {
            return 1.0;
        }
        List<Double> scores = new ArrayList<>();
        ((Map<?, ?>) want.get("scores")).values().forEach(s -> scores.add((Double) s));
        scores.sort((a, b) -> Double.compare(b, a));
        return (scores.get(0) - scores.get(1)) / Math.max(Math.abs(scores.get(0)), 1e-12);
    }

    private static void flatten(Object want, Object got, String key, List<double[]> pairs, List<String> problems) {
        if (want instanceof Map && got instanceof Map) {
            if (!((Map<?, ?>) want).keySet().equals(((Map<?, ?>) got).keySet())) {
                problems.add(key + ": other keys");
            }
            ((Map<?, ?>) want).forEach((name, item) -> {
                if (((Map<?, ?>) got).containsKey(name)) {
                    flatten(item, ((Map<?, ?>) got).get(name), key + "." + name, pairs, problems);
                }
            });
        } else if (want instanceof List && got instanceof List) {
            List<?> a = (List<?>) want;
            List<?> b = (List<?>) got;
            if (a.size() != b.size()) {
                problems.add(key + ": expected " + a.size() + " entries, got " + b.size());
            }
            for (int i = 0; i < Math.min(a.size(), b.size()); i++) {
                flatten(a.get(i), b.get(i), key, pairs, problems);
            }
        } else if (want instanceof Double && got instanceof Number) {
            pairs.add(new double[] {(Double) want, ((Number) got).doubleValue()});
        } else if (want == null ? got != null : !want.equals(got)) {
            problems.add(key + ": expected " + want + ", got " + got);
        }
    }
}
