"""What will be leased when: files or live clusters in, a table and a picture of the coming week out. Nothing is written."""
