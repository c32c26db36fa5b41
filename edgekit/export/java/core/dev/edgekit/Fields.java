package dev.edgekit;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;

/** Strict reading of one table of the manifest: every key is asked for once, none is left over, none has a default. */
final class Fields {
    private final Map<String, Object> table;
    private final String key;
    private final Set<String> seen = new HashSet<>();

    @SuppressWarnings("unchecked")
    Fields(Object value, String key) {
        if (!(value instanceof Map)) {
            throw problem(key, "expected a table");
        }
        this.table = (Map<String, Object>) value;
        this.key = key;
    }

    static BundleError problem(String key, String problem) {
        return new BundleError("manifest key '" + key + "': " + problem);
    }

    private String path(String name) {
        return key.isEmpty() ? name : key + "." + name;
    }

    private Object get(String name) {
        if (!table.containsKey(name)) {
            throw problem(path(name), "missing");
        }
        seen.add(name);
        return table.get(name);
    }

    private <T> T typed(String name, Class<T> kind, String words) {
        Object value = get(name);
        if (!kind.isInstance(value)) {
            throw problem(path(name), "expected " + words);
        }
        return kind.cast(value);
    }

    String text(String name) {
        return typed(name, String.class, "a string");
    }

    String textOrNull(String name) {
        return table.get(name) == null && table.containsKey(name) ? (String) get(name) : text(name);
    }

    String choice(String name, String... choices) {
        String value = text(name);
        if (!Arrays.asList(choices).contains(value)) {
            throw problem(path(name), "expected one of " + String.join(", ", choices) + ", got " + value);
        }
        return value;
    }

    boolean flag(String name) {
        return typed(name, Boolean.class, "true or false");
    }

    int whole(String name) {
        long value = wholeLong(name);
        if (value != (int) value) {
            throw problem(path(name), "a whole number beyond 32 bits");
        }
        return (int) value;
    }

    long wholeLong(String name) {
        return typed(name, Long.class, "a whole number");
    }

    Long wholeOrNull(String name) {
        return table.get(name) == null && table.containsKey(name) ? (Long) get(name) : Long.valueOf(wholeLong(name));
    }

    double real(String name) {
        return typed(name, Double.class, "a number with a decimal point");
    }

    List<Object> list(String name) {
        List<?> value = typed(name, List.class, "a list");
        return new ArrayList<>(value);
    }

    double[] reals(String name) {
        List<Object> list = list(name);
        double[] values = new double[list.size()];
        for (int i = 0; i < values.length; i++) {
            if (!(list.get(i) instanceof Double)) {
                throw problem(path(name), "expected numbers with a decimal point");
            }
            values[i] = (Double) list.get(i);
        }
        return values;
    }

    int[] wholes(String name) {
        List<Object> list = list(name);
        int[] values = new int[list.size()];
        for (int i = 0; i < values.length; i++) {
            if (!(list.get(i) instanceof Long)) {
                throw problem(path(name), "expected whole numbers");
            }
            values[i] = Math.toIntExact((Long) list.get(i));
        }
        return values;
    }

    List<String> texts(String name) {
        List<String> values = new ArrayList<>();
        for (Object item : list(name)) {
            if (!(item instanceof String)) {
                throw problem(path(name), "expected strings");
            }
            values.add((String) item);
        }
        return values;
    }

    <T> List<T> each(String name, Function<Fields, T> read) {
        List<T> values = new ArrayList<>();
        List<Object> list = list(name);
        for (int i = 0; i < list.size(); i++) {
            values.add(new Fields(list.get(i), path(name) + "[" + i + "]").all(read));
        }
        return values;
    }

    <T> Map<String, T> named(String name, Function<Fields, T> read) {
        Map<String, T> values = new LinkedHashMap<>();
        for (Map.Entry<?, ?> entry : ((Map<?, ?>) typed(name, Map.class, "a table")).entrySet()) {
            String inner = (String) entry.getKey();
            values.put(inner, new Fields(entry.getValue(), path(name) + "." + inner).all(read));
        }
        return values;
    }

    Map<String, String> namedTexts(String name) {
        Map<String, String> values = new LinkedHashMap<>();
        for (Map.Entry<?, ?> entry : ((Map<?, ?>) typed(name, Map.class, "a table")).entrySet()) {
            values.put((String) entry.getKey(), String.valueOf(entry.getValue()));
        }
        return values;
    }

    <T> T record(String name, Function<Fields, T> read) {
        return new Fields(get(name), path(name)).all(read);
    }

    <T> T recordOrNull(String name, Function<Fields, T> read) {
        return get(name) == null ? null : record(name, read);
    }

    /** Anything: a golden sample's inputs and result. */
    Object any(String name) {
        return get(name);
    }

    /** What `read` makes of this table, which must have no key that it did not ask for. */
    <T> T all(Function<Fields, T> read) {
        T value = read.apply(this);
        for (String name : table.keySet()) {
            if (!seen.contains(name)) {
                throw problem(path(name), "unknown");
            }
        }
        return value;
    }
}
