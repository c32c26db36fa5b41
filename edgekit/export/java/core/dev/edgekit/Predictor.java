package dev.edgekit;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A loaded bundle that answers predict. It may be called from several threads, one call at a time; close it when done.
 *
 * <pre>
 * Predictor clip = Predictor.load(files, loader);
 * Similarity found = (Similarity) clip.predict(pixels, Arrays.asList("a cat", "a dog"), null);
 * </pre>
 */
public final class Predictor implements AutoCloseable {
    private static final int TEXT_MEMORY = 1024;

    public final Manifest manifest;
    private final BundleFiles files;
    private final Flow flow;
    private final Map<String, TextTransform> texts = new HashMap<>();
    private final List<String> labels;
    private final Map<String, Tensor> seenTexts = new LinkedHashMap<String, Tensor>(16, 0.75f, true) {
        private static final long serialVersionUID = 1L;

        @Override
        protected boolean removeEldestEntry(Map.Entry<String, Tensor> eldest) {
            return size() > TEXT_MEMORY;
        }
    };
    private boolean closed = false;

    private Predictor(BundleFiles files, GraphLoader loader) {
        this.files = files;
        manifest = Manifest.parse(files.read("manifest.json"));
        for (Map.Entry<String, InputSpec> input : manifest.inputs.entrySet()) {
            if (input.getValue() instanceof TextSpec) {
                TextSpec spec = (TextSpec) input.getValue();
                texts.put(input.getKey(), new TextTransform(spec, manifest.limits.textBytes, files));
            }
        }
        String labelFile = manifest.postprocess.labels;
        labels = labelFile == null ? null : lines(new String(files.read(labelFile), StandardCharsets.UTF_8));
        flow = new Flow(manifest.graphs, loader);
    }

    /** Lines as Python's splitlines() cuts them. */
    private static List<String> lines(String text) {
        List<String> lines = new ArrayList<>(
                Arrays.asList(text.split("\r\n|[\n\r\u000b\u000c\u001c\u001d\u001e\u0085\u2028\u2029]", -1)));
        if (lines.get(lines.size() - 1).isEmpty()) {
            lines.remove(lines.size() - 1);
        }
        return lines;
    }

    /** The predictor of the bundle in `files`; throws BundleError, GraphRefused. */
    public static Predictor load(BundleFiles files, GraphLoader loader) {
        return new Predictor(files, loader);
    }

    /** A file of the bundle. */
    public byte[] read(String name) {
        return files.read(name);
    }

    /** The answer for these inputs; null for what is not given. `text` is a String, or the List of a zero-shot task. */
    public Result predict(Pixels image, Object text, Sound audio) {
        Map<String, Object> given = new LinkedHashMap<>();
        given.put("image", image);
        given.put("text", text);
        given.put("audio", audio);
        given.values().removeAll(Collections.singleton(null));
        return predict(given);
    }

    /** The answer for inputs by keyword: Pixels, Sound, String or List of String, Tensor. */
    public Result predict(Map<String, ?> given) {
        return trace(given, new LinkedHashMap<>());
    }

    /** The answer of predict; every value of the flow on the way is added to `seen`. */
    public synchronized Result trace(Map<String, ?> given, Map<String, Tensor> seen) {
        if (closed) {
            throw new InputError("'" + manifest.name + "' is closed");
        }
        if (given.isEmpty() || !manifest.inputs.keySet().containsAll(given.keySet())) {
            throw new InputError("'" + manifest.name + "' takes " + manifest.inputs.keySet() + "; got " + given.keySet());
        }
        long start = System.nanoTime();
        Map<String, Double> timings = new LinkedHashMap<>();
        Postprocess spec = manifest.postprocess;
        Result result = spec.sources == null ? flat(spec, given, seen, timings) : sides(spec, given, seen, timings);
        double total = (System.nanoTime() - start) / 1e6;
        double known = 0.0;
        for (double stage : timings.values()) {
            known += stage;
        }
        timings.put("postprocess", Math.max(total - known, 0.0));
        timings.put("total", total);
        return result;
    }

    private Result flat(
            Postprocess spec, Map<String, ?> given, Map<String, Tensor> seen, Map<String, Double> timings) {
        List<String> wanted = spec.values != null ? spec.values : Collections.singletonList(spec.value);
        wanted = spec.boxes != null ? Arrays.asList(spec.logits, spec.boxes) : wanted;
        Map<String, Tensor> values = run(given, wanted, timings);
        seen.putAll(values);
        Result result;
        if (spec.boxes != null) {
            result = Detections.detect(spec, values, geometry(spec.image, given.get(spec.image)), labels, timings);
        } else if (spec.values == null) {
            result = new Classification(Scores.classify(spec, values.get(spec.value), labels), timings);
        } else {
            Map<String, Tensor> tensors = new LinkedHashMap<>();
            spec.values.forEach(name -> tensors.put(name, values.get(name)));
            result = new Raw(tensors, timings);
        }
        return result;
    }

    private Geometry geometry(String keyword, Object value) {
        if (!(value instanceof Pixels)) {
            throw new InputError(keyword + ": expected the picture that boxes are given in");
        }
        Pixels picture = (Pixels) value;
        List<ImageSpec.Step> steps = ((ImageSpec) manifest.inputs.get(keyword)).steps;
        return new Geometry(
                ImagePlan.plan(steps, picture.height, picture.width, manifest.limits.pixels),
                picture.height,
                picture.width);
    }

    private Result sides(
            Postprocess spec, Map<String, ?> given, Map<String, Tensor> seen, Map<String, Double> timings) {
        Object text = given.get("text");
        if (spec.task.equals("embedding") || given.size() == 1) {
            if (given.size() != 1) {
                throw new InputError("one input at a time has an embedding, got " + given.keySet());
            }
            String keyword = given.keySet().iterator().next();
            if (keyword.equals("text") && !(text instanceof String)) {
                throw new InputError("text: expected one string; several are the candidates for an image or a sound");
            }
            Tensor vector = embed(keyword, given.get(keyword), seen, timings);
            return new Embedding(vector.floats(), timings);
        }
        List<String> others = new ArrayList<>(given.keySet());
        others.remove("text");
        if (others.size() != 1 || text == null) {
            throw new InputError("expected one of image or audio against text, got " + given.keySet());
        }
        List<String> candidates = candidates(text);
        Tensor query = embed(others.get(0), given.get(others.get(0)), seen, timings);
        List<Tensor> rows = new ArrayList<>();
        for (String label : candidates) {
            rows.add(embed("text", spec.template.replace("{}", label), seen, timings));
        }
        Tensor vectors = Tensor.join(rows, false);
        Map<String, Double> scores = Scores.ranked(candidates, Scores.similarity(spec, query, vectors), 0);
        boolean image = others.get(0).equals("image");
        return new Similarity(
                scores, image ? query.floats() : null, image ? null : query.floats(), vectors, timings);
    }

    private List<String> candidates(Object text) {
        List<?> given = text instanceof List ? (List<?>) text : Collections.singletonList(text);
        List<String> candidates = new ArrayList<>();
        Set<String> once = new HashSet<>();
        for (Object item : given) {
            if (!(item instanceof String)) {
                throw new InputError("text: expected a list of candidate strings");
            }
            if (!once.add((String) item)) {
                throw new InputError("text: a candidate stands twice");
            }
            candidates.add((String) item);
        }
        if (candidates.isEmpty() || candidates.size() > manifest.limits.candidates) {
            throw new InputError("text: expected 1 to " + manifest.limits.candidates + " candidates, got "
                    + candidates.size());
        }
        return candidates;
    }

    private Tensor embed(String keyword, Object value, Map<String, Tensor> seen, Map<String, Double> timings) {
        boolean text = keyword.equals("text") && value instanceof String;
        Tensor known = text ? seenTexts.get(value) : null;
        if (known != null) {
            return known;
        }
        Postprocess spec = manifest.postprocess;
        Postprocess.Source source = spec.sources.get(keyword);
        Map<String, Tensor> values =
                run(Collections.singletonMap(keyword, value), Collections.singletonList(source.value), timings);
        seen.putAll(values);
        boolean unit = spec.normalize || spec.template != null; // a cosine is of unit vectors
        Tensor vector = Scores.embed(source, values, unit);
        if (vector.rows() != 1) {
            throw new InputError(keyword + ": expected one item, got " + vector.rows());
        }
        if (text) {
            seenTexts.put((String) value, vector);
        }
        return vector;
    }

    /** Encode every text again: a check must see each value of the flow. */
    synchronized void forgetTexts() {
        seenTexts.clear();
    }

    private Map<String, Tensor> run(Map<String, ?> given, List<String> wanted, Map<String, Double> timings) {
        long start = System.nanoTime();
        Map<String, Tensor> values = new LinkedHashMap<>();
        given.forEach((keyword, value) -> values.putAll(prepare(keyword, value)));
        timings.merge("preprocess", (System.nanoTime() - start) / 1e6, Double::sum);
        flow.run(values, wanted, timings);
        return values;
    }

    /** The values that one input gives. */
    public Map<String, Tensor> prepare(String keyword, Object value) {
        InputSpec spec = manifest.inputs.get(keyword);
        if (spec instanceof ImageSpec && value instanceof Pixels) {
            return ImageTransform.transform((ImageSpec) spec, (Pixels) value, manifest.limits.pixels);
        }
        if (spec instanceof AudioSpec && value instanceof Sound) {
            return AudioTransform.transform((AudioSpec) spec, (Sound) value, manifest.limits);
        }
        if (spec instanceof TextSpec && value instanceof String) {
            return texts.get(keyword).transform((String) value);
        }
        if (spec instanceof InputSpec.TensorSpec && value instanceof Tensor) {
            return Collections.singletonMap(spec.values().get(0), checked((InputSpec.TensorSpec) spec, (Tensor) value));
        }
        throw new InputError(keyword + ": expected Pixels, Sound, a String or a Tensor as the bundle's input is, got "
                + (value == null ? "null" : value.getClass().getSimpleName()));
    }

    private static Tensor checked(InputSpec.TensorSpec spec, Tensor tensor) {
        boolean fits = tensor.datatype.equals(spec.datatype) && tensor.shape.length == spec.shape.length;
        for (int i = 0; fits && i < spec.shape.length; i++) {
            fits = spec.shape[i] < 0 || spec.shape[i] == tensor.shape[i];
        }
        if (!fits) {
            throw new InputError("'" + spec.value + "': expected " + spec.datatype + " of shape "
                    + Arrays.toString(spec.shape) + ", got " + tensor.datatype + " of " + Arrays.toString(tensor.shape));
        }
        return tensor;
    }

    @Override
    public synchronized void close() {
        closed = true;
        flow.close();
    }
}
