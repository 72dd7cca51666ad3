"""Where frames come from: topics, a directory or a camera, as three kinds of one ``Source``."""
