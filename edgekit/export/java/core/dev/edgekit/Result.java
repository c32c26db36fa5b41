package dev.edgekit;

import java.util.LinkedHashMap;
import java.util.Map;

/** An answer of predict; `timings` is milliseconds per stage and not part of what is compared. */
public abstract class Result {
    public final Map<String, Double> timings;

    Result(Map<String, Double> timings) {
        this.timings = timings;
    }

    abstract void fields(Map<String, Object> into);

    /** The fields by the names that Python's to_dict() has. */
    public final Map<String, Object> toMap() {
        Map<String, Object> map = new LinkedHashMap<>();
        fields(map);
        map.put("timings", timings);
        return map;
    }

    /** The same as JSON text. */
    public final String toJson() {
        return Json.write(toMap());
    }
}
