"""The source of a network in another library: ``torch`` and ``keras`` write it, ``parts`` has what they share."""
