/** What is left out of a shape, as docs/connect/wire-vectors.json has it; a test holds them to be the same. */
export const VERSION = 1;
export const MOST_CHARACTERS = 262144;
export const TEXT_PATTERNS = [
  "(?:/private)?/(?:tmp|var/tmp|var/folders|dev/shm)/[^ \\t\\n\\r\\f\\v\\\"'<>:;,)\\]}]+",
  "[A-Za-z]:\\\\(?:[^ \\t\\n\\r\\f\\v\\\\\\\"'<>]+\\\\){0,8}Te?mp\\\\[^ \\t\\n\\r\\f\\v\\\"'<>:;,)\\]}]+",
  "\\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\\b",
  "\\b\\d{4}[-/]\\d{2}[-/]\\d{2}(?:[T ]\\d{1,2}:\\d{2}(?::\\d{2}(?:[.,]\\d{1,9})?)?(?:[ \\t\\n\\r\\f\\v]?[AaPp][Mm]\\b)?(?:[ \\t\\n\\r\\f\\v]?(?:Z|UTC|GMT|[+-]\\d{2}:?\\d{2})\\b)?)?",
  "(?:\\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?[ \\t\\n\\r\\f\\v])?\\b(?:\\d{1,2}[ \\t\\n\\r\\f\\v](?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*[ \\t\\n\\r\\f\\v]{1,2}\\d{1,2}),?(?:[ \\t\\n\\r\\f\\v]\\d{4})?(?:[ \\t\\n\\r\\f\\v]\\d{1,2}:\\d{2}(?::\\d{2}(?:[.,]\\d{1,9})?)?(?:[ \\t\\n\\r\\f\\v]?[AaPp][Mm]\\b)?(?:[ \\t\\n\\r\\f\\v]?(?:Z|UTC|GMT|[+-]\\d{2}:?\\d{2})\\b)?)?(?:[ \\t\\n\\r\\f\\v]\\d{4})?\\b",
  "(?<![\\w.:])\\d{1,2}:\\d{2}(?::\\d{2}(?:[.,]\\d{1,9})?)?(?:[ \\t\\n\\r\\f\\v]?[AaPp][Mm]\\b)?(?:[ \\t\\n\\r\\f\\v]?(?:Z|UTC|GMT|[+-]\\d{2}:?\\d{2})\\b)?(?![\\w:])",
  "(?<![\\w.])\\d{1,12}(?:[.,]\\d{1,9})?[ \\t\\n\\r\\f\\v]?(?:ns|us|\u00b5s|\u03bcs|ms|msecs?|millis|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)\\b",
  "(?<![\\w.])1\\d{9}(?:\\d{3}|\\d{6}|\\d{9})?(?:\\.\\d{1,9})?(?![\\w.])",
  "\\b0x[0-9a-fA-F]{4,}\\b",
  "\\b(?=[0-9a-fA-F]{0,127}[0-9])(?=[0-9a-fA-F]{0,127}[a-fA-F])[0-9a-fA-F]{8,128}\\b",
  "\\b(?:[a-z]{2,8}[_-])?(?=[A-Za-z]{0,63}[0-9])(?=[0-9]{0,63}[A-Za-z])[A-Za-z0-9]{20,64}\\b",
  "\\b(?:[Aa][Tt][Tt][Ee][Mm][Pp][Tt]|[Rr][Ee][Tt][Rr][Yy]|[Rr][Ee][Tt][Rr][Ii][Ee][Ss]|[Tt][Rr][Yy]|[Tt][Rr][Ii][Ee][Ss]|[Ii][Tt][Ee][Rr][Aa][Tt][Ii][Oo][Nn]|[Ii][Tt][Ee][Rr]|[Cc][Oo][Uu][Nn][Tt][Ee][Rr]|[Ss][Ee][Qq]|[Ss][Ee][Qq][Uu][Ee][Nn][Cc][Ee]|[Pp][Ii][Dd]|[Nn][Oo][Nn][Cc][Ee]|[Rr][Ee][Qq][Uu][Ee][Ss][Tt][ _-]?[Ii][Dd]|[Tt][Rr][Aa][Cc][Ee][ _-]?[Ii][Dd]|[Ss][Ee][Ss][Ss][Ii][Oo][Nn][ _-]?[Ii][Dd])[ \\t\\n\\r\\f\\v]?(?:[Nn][Oo]\\.?[ \\t\\n\\r\\f\\v]?|[:=#][ \\t\\n\\r\\f\\v]?|\\[)?\\d{1,18}(?:[ \\t\\n\\r\\f\\v]?(?:[Oo][Ff]|/)[ \\t\\n\\r\\f\\v]?\\d{1,18})?",
];
export const KEY_PATTERN =
  "(?:^|[_\\-.])(?:id|ids|uuid|guid|nonce|etag|pid|time|times|timestamp|ts|date|datetime|at|now|ms|ns|seconds|secs|duration|elapsed|latency|took|runtime|uptime|age|attempt|attempts|retry|retries|iteration|counter|seq|sequence)$|[a-z](?:Id|Ids|At|Time|Timestamp|Date|Ms|Duration|Latency)$";
