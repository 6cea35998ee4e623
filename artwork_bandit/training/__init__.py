"""From the replay log to a model's bundle; the only room that loads Vowpal Wabbit."""
