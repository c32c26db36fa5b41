package dev.edgekit;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/**
 * Runs the graphs of a bundle in dependency order, and only those that are needed. Axis 0 of a value counts rows; a graph
 * whose batch axis is fixed at 1, or that carries state, is run once per row.
 */
final class Flow implements AutoCloseable {
    private final List<Manifest.GraphSpec> specs;
    private final Map<String, Graph> graphs = new HashMap<>();

    Flow(List<Manifest.GraphSpec> specs, GraphLoader loader) {
        this.specs = specs;
        try {
            for (Manifest.GraphSpec spec : specs) {
                graphs.put(spec.name, loader.load(spec.file));
            }
        } catch (RuntimeException error) {
            close();
            throw error;
        }
    }

    /** Adds to `values` what follows from them, until all that is wanted is there; milliseconds per graph to `timings`. */
    void run(Map<String, Tensor> values, Collection<String> wanted, Map<String, Double> timings) {
        for (Manifest.GraphSpec spec : needed(values.keySet(), wanted)) {
            long start = System.nanoTime();
            step(spec, graphs.get(spec.name), values);
            timings.merge("graph:" + spec.name, (System.nanoTime() - start) / 1e6, Double::sum);
        }
    }

    private List<Manifest.GraphSpec> needed(Set<String> given, Collection<String> wanted) {
        Set<String> known = new HashSet<>(given);
        List<Manifest.GraphSpec> order = new ArrayList<>();
        List<Manifest.GraphSpec> waiting = new ArrayList<>(specs);
        boolean moved = true;
        while (moved) {
            moved = false;
            for (Manifest.GraphSpec spec : new ArrayList<>(waiting)) {
                if (spec.inputs.stream().allMatch(p -> known.contains(p.value))) {
                    order.add(spec);
                    waiting.remove(spec);
                    spec.outputs.forEach(p -> known.add(p.value));
                    moved = true;
                }
            }
        }
        for (String name : wanted) {
            if (!known.contains(name)) {
                Set<String> lacking = new TreeSet<>();
                waiting.forEach(g -> g.inputs.forEach(p -> lacking.add(p.value)));
                lacking.removeAll(known);
                throw new InputError("'" + name + "' cannot be computed: " + lacking + " is not given");
            }
        }
        Set<String> targets = new HashSet<>(wanted);
        List<Manifest.GraphSpec> kept = new ArrayList<>();
        for (int i = order.size() - 1; i >= 0; i--) {
            Manifest.GraphSpec spec = order.get(i);
            if (spec.outputs.stream().anyMatch(p -> targets.contains(p.value))) {
                kept.add(0, spec);
                spec.inputs.forEach(p -> targets.add(p.value));
            }
        }
        return kept;
    }

    private static void step(Manifest.GraphSpec spec, Graph graph, Map<String, Tensor> values) {
        Map<String, Tensor> inputs = new LinkedHashMap<>();
        boolean byRow = false;
        boolean sameRank = true;
        boolean single = false;
        for (Manifest.Port port : spec.inputs) {
            Tensor value = values.get(port.value);
            inputs.put(port.name, toGraph(port, value));
            byRow |= value.shape.length > port.shape.length;
            sameRank &= value.shape.length == port.shape.length;
            single |= port.shape.length > 0 && port.shape[0] == 1;
        }
        boolean rows = inputs.values().stream().anyMatch(t -> t.shape.length > 0 && t.rows() != 1);
        if (!spec.state.isEmpty()) {
            values.putAll(rows(spec, graph, inputs, sameRank));
        } else if (byRow || (single && rows)) {
            values.putAll(rows(spec, graph, inputs, !byRow));
        } else {
            values.putAll(call(spec, graph, inputs, new HashMap<>()));
        }
    }

    private static Map<String, Tensor> rows(
            Manifest.GraphSpec spec, Graph graph, Map<String, Tensor> inputs, boolean keepAxis) {
        int rows = 1;
        for (Tensor input : inputs.values()) {
            if (input.rows() != 1 && rows != 1 && rows != input.rows()) {
                throw new GraphRefused("inputs have different numbers of rows: " + rows + ", " + input.rows());
            }
            rows = Math.max(rows, input.rows());
        }
        Map<String, Tensor> states = initialState(spec, graph);
        Map<String, List<Tensor>> found = new LinkedHashMap<>();
        for (int i = 0; i < rows; i++) {
            Map<String, Tensor> row = new LinkedHashMap<>();
            for (Map.Entry<String, Tensor> input : inputs.entrySet()) {
                Tensor all = input.getValue();
                row.put(input.getKey(), all.row(all.rows() == 1 ? 0 : i, keepAxis));
            }
            for (Map.Entry<String, Tensor> made : call(spec, graph, row, states).entrySet()) {
                found.computeIfAbsent(made.getKey(), name -> new ArrayList<>()).add(made.getValue());
            }
        }
        Map<String, Tensor> joined = new LinkedHashMap<>();
        found.forEach((name, parts) -> joined.put(name, Tensor.join(parts, false)));
        return joined;
    }

    private static Map<String, Tensor> initialState(Manifest.GraphSpec spec, Graph graph) {
        Map<String, Tensor> states = new HashMap<>();
        for (Manifest.State state : spec.state) {
            for (Graph.TensorSpec tensor : graph.inputs()) {
                if (tensor.name.equals(state.input)) {
                    states.put(state.input, Tensor.zeros(tensor.datatype, tensor.shape));
                }
            }
        }
        return states;
    }

    /** One run; `states` is fed and replaced. */
    private static Map<String, Tensor> call(
            Manifest.GraphSpec spec, Graph graph, Map<String, Tensor> inputs, Map<String, Tensor> states) {
        Map<String, Tensor> fed = new LinkedHashMap<>(inputs);
        spec.constants.forEach(c -> fed.put(c.name, c.tensor));
        fed.putAll(states);
        Map<String, Tensor> outputs = graph.run(fed);
        for (Manifest.State state : spec.state) {
            states.put(state.input, outputs.get(state.output));
        }
        Map<String, Tensor> values = new LinkedHashMap<>();
        for (Manifest.Port port : spec.outputs) {
            Tensor output = outputs.get(port.name);
            if (output == null) {
                throw new GraphRefused(spec.file + " has no output '" + port.name + "'");
            }
            values.put(port.value, port.quantization == null ? output : port.quantization.dequantize(output));
        }
        return values;
    }

    private static Tensor toGraph(Manifest.Port port, Tensor value) {
        if (value.datatype.equals(port.datatype)) {
            return value;
        }
        if (port.quantization == null) {
            return value.cast(port.datatype);
        }
        return new Tensor(port.datatype, value.shape, port.quantization.quantize(value.floats(), port.datatype));
    }

    @Override
    public void close() {
        graphs.values().forEach(Graph::close);
        graphs.clear();
    }
}
