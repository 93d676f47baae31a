"""Tables, figures and page, from plan and store alone: no job runs here."""
