"""The console: see the edge live in a browser, and operate it.

    app.py          make the application from a configuration
    guard.py        every request: its Host, Origin, size, account and CSRF token; every answer: its headers
    access.py       who asks: a session, or the header of a reverse proxy
    sessions.py     which account a session's cookie belongs to, read once for all who look
    sign_in.py      passwords, signing in and lock-out
    first_link.py   the one-time link with which the first account is made
    database.py     bounded statements for pages, in a thread
    screen.py       render a page or the part of it that changes; text.py has the filters of the templates
    action.py       the one way to change something: role, count, confirmation, then the use case
    background.py   actions that take long, in slices
    live.py         one snapshot a second however many look, told to browsers by server-sent events
    routes.py       the screens, in the order of the navigation
    pages/          a module for each screen; its `routes`

The console changes nothing by itself. An action calls the use case of gateway/operate that the command of the
command line calls, too, and the use case records who did it in the transaction that changes the rows.

If the process dies
    in an action                its transaction is undone, or committed with its record
    in a background action      the slices before are committed; the next console says how many were done
    else                        nothing is lost; browsers connect again, sessions continue
"""
