// Package nginx steers a site of an nginx on this machine: the open source one, without modules of its own, since version 1.11.0. It needs
// Linux, where it can be seen when the worker processes of an old configuration have stopped accepting.
//
// The site's application runs in two slots or more, each at an address of its own. A file that nginx.conf includes within http belongs to
// the Switcher; it says by a variable to which slot a request goes.
//
//	sw, err := nginx.New(nginx.Config{
//		Name:    "mysite",
//		Slots:   map[string]string{"blue": "127.0.0.1:5001", "green": "127.0.0.1:5002"},
//		Include: "/etc/nginx/abswap-mysite.conf",
//		Door:    "http://127.0.0.1/.abswap-mysite",
//	})
//	swapper := &abswap.Swapper{Switcher: sw, Slots: []abswap.Slot{blue, green}, Journal: journal}
//	report, err := swapper.Deploy(ctx, abswap.Release{ID: "v1085", Path: "/srv/out"})
//
// # What an existing nginx.conf needs
//
// First the file itself, which Prepare makes: sw.Prepare(ctx, blue), where blue is the slot whose application has the traffic now. Then these
// lines, which Snippet returns for any Config. Within http, once, unless the file lies where nginx looks anyway, as it does in
// /etc/nginx/conf.d on Debian and Ubuntu:
//
//	include /etc/nginx/abswap-mysite.conf;
//
// Within the server block of the site, for the Switcher to see which configuration answers. Config.Host names the site where Door alone does not:
//
//	location = /.abswap-mysite { default_type text/plain; return 200 $abswap_mysite_mark; }
//
// And in each location that leads to the application, in place of its address:
//
//	proxy_pass http://$abswap_mysite;
//	proxy_set_header Host $host;
//	proxy_http_version 1.1;
//
// After a variable proxy_pass takes no path: where the old line had one, rewrite does what it did. The lines for websockets stay as they are. With
// proxy_request_buffering off an upload goes to its slot as it comes. After nginx -t and a reload, Swapper.Check tells what is still missing,
// all at once. The tool runs as root, or as a user who may write the folder of the file, reload nginx and look at its processes.
//
// # What a switch does
//
// The file is replaced as a whole, by one move; what was there is kept beside it, under a name that begins with a dot. nginx -T tells
// whether nginx would take the configuration; if not, the file is put back. Then the master process is told to reload. That order answers
// nothing, and nginx may refuse what nginx -T has passed, such as an address that cannot be bound. So the truth is looked for: none of the
// worker processes that ran before may hold a listening socket, there are others, and the front door answers, several times in a row and each
// on a connection of its own, with the mark of the new file. Only then does Activate return. If the error log says that the reload was
// refused, the file is put back and the error wraps ErrRefused; if nothing comes about in Config.Patience, it is put back, nginx is told to
// load that, and the error wraps abswap.ErrUnknownOutcome. A reload takes nginx a tenth of a second at the least, as it waits that long itself.
//
// Active and Weights tell what answers at the front door. A file that was changed and not loaded does not change their answer: Check refuses
// it with ErrPending, since the next reload, whoever does it, would move the traffic, and Observe tells of it. A file that was changed by hand
// and loaded is read as nginx reads it.
//
// # Which promises are kept
//
// All of abswap.Switcher but these, which no reload of nginx keeps:
//
//   - S2 on kept-alive connections. A reload closes those on which nginx waits for a next request (Traits.ClosesIdle). A client that sends
//     one in that moment has to send it again; browsers and most libraries do so by themselves, for a POST most do not. On
//     new connections nothing is lost. keepalive_min_timeout, which newer versions have, trades this for S1, and Check warns of it.
//   - S1 on connections that a client had opened before the switch without sending anything, as browsers do: their first request goes to the
//     old slot. It counts there, so that the slot is not taken for idle before.
//
// Weights are drawn for each request by its random ID, so that they are met as chance has it, with no tolerance beside that. Each slot is an
// upstream group of its own: nginx does not try a request again in another slot, and a slot that is down does not lend its part to the others.
//
// # What counts as in flight
//
// See InFlight. The counts are of the sockets of nginx's worker processes, not of the workers: the long connection of another site keeps an old
// worker alive, but no slot busy. The evidence is approximate, a websocket counts as a request, and uploads that nginx reads to their end
// before it passes them on count before the slot has seen them. Where one client's connection may have several to slots (HTTP/2, auth_request,
// mirror, slices, SSI), an old worker with any client counts, since that could hide one that is still to come; where clients cannot be seen
// among the sockets of TCP (QUIC, listen unix:), an old worker counts as long as it lives. An application that counts its own work knows better.
package nginx
